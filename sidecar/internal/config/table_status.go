package config

// statusSettings are those under the key status.
func statusSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "status.address", def: "127.0.0.1:9600",
			doc: "Where the sidecar serves its status, metrics and API. Port 0 takes a free one. Leaving nodes ask there, so those on other machines must reach it.",
			at:  func(c *Config) value { return text{&c.Status.Address, "host:port", listenAddress} },
		},
		{
			key: "status.socket", derived: "`haproxy.config` with `.api.sock` after it; none where that is too long for a socket",
			doc: "A Unix socket with the same API, for `sidecar guard release` and other actions. Its mode is 0600: only the sidecar's own user and root can open it. Empty is none; actions then need `status.token_file`.",
			at:  func(c *Config) value { return text{&c.Status.Socket, "path", orEmpty(unixSocket)} },
		},
		{
			key: "status.max_connections", def: "8192",
			doc: "Most connections to `status.address` at a time. More are closed at once. Fewer are taken where the sidecar may open few files: see [the API](api.md).",
			at:  func(c *Config) value { return atLeast(&c.Status.MaxConnections, 16) },
		},
		{
			key: "status.max_connections_per_address", def: "1024",
			doc: "Most of them from one IPv4 address, or from one /64 network of IPv6; at most half of all.",
			at:  func(c *Config) value { return atLeast(&c.Status.MaxPerAddress, 8) },
		},
		{
			key: "status.hosts", def: "[]",
			doc: "Further names by which requests may call the sidecar, besides `name`, the hosts of `status.address` and `status.advertise`, `localhost` and any IP address. Others get 403, because a page in a browser could use a name of its own (DNS rebinding). Not looked at where a token is asked for.",
			at: func(c *Config) value {
				return list{p: &c.Status.Hosts, what: "host name, or a list of them", item: name}
			},
		},
		{
			key: "status.service", def: "pointsman-sidecar",
			doc: "The service as which the sidecar registers itself in Consul, for leaving nodes and deployments to find it. Empty registers nothing. See [drain](drain.md).",
			at:  func(c *Config) value { return text{&c.Status.Service, "name", orEmpty(name)} },
		},
		{
			key: "status.advertise", derived: "`status.address`; where that is every address, the sidecar's on its way to Consul, or the Consul node's where Consul is on this machine",
			doc: "Where others reach the sidecar: an address or a host's name, and a port if it is another one. A name is looked up again and again, and its address registered.",
			at: func(c *Config) value {
				return text{&c.Status.Advertise, "IP address or host name, perhaps with a port", orEmpty(advertise)}
			},
		},
		{
			key: "status.token", noFlag: true,
			doc: "What a request must bring as `Authorization: Bearer …`, but for one of `/healthz`. Rather use `status.token_file`. There is no flag.",
			at:  func(c *Config) value { return secret{&c.Status.Token, token} },
		},
		{
			key: "status.token_file",
			doc: "A file that holds this token. It is read again when it changes.",
			at:  func(c *Config) value { return text{&c.Status.TokenFile, "path", orEmpty(path)} },
		},
		{
			key: "status.tls.cert_file",
			doc: "The server's certificate, in PEM: it then speaks TLS only. It is read again when it changes.",
			at:  func(c *Config) value { return text{&c.Status.TLS.CertFile, "path", orEmpty(path)} },
		},
		{
			key: "status.tls.key_file",
			doc: "The certificate's key.",
			at:  func(c *Config) value { return text{&c.Status.TLS.KeyFile, "path", orEmpty(path)} },
		},
		{
			key: "status.tls.client_ca_file",
			doc: "The authorities, one of which must have signed a client's certificate. Nobody else is answered, but on `/healthz`.",
			at:  func(c *Config) value { return text{&c.Status.TLS.ClientCAFile, "path", orEmpty(path)} },
		},
	}
}

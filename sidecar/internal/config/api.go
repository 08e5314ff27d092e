package config

// API is the sidecar's own HTTP server, and its registration in Consul, by
// which leaving nodes and deployments find it.
type API struct {
	Address string // host:port; the host may be empty, the port 0
	Socket  string // path of the Unix socket that takes actions; "" is none
	// MaxConnections bounds the connections to Address, MaxPerAddress those of one
	// client. Fewer are taken where few files may be open.
	MaxConnections, MaxPerAddress int

	Hosts []string // names by which the server may be called, besides its own

	// At most one of Token and TokenFile is set. With one, a request must bring
	// it; /healthz needs none.
	Token     Secret
	TokenFile string

	SigningKeyFile string // "": answers are not signed
	TLS            StatusTLS

	Service   string // as which the sidecar registers itself; "" registers nothing
	Advertise string // where others reach it: a host or host:port; "" is to be found out
}

// StatusTLS is how the server speaks TLS.
type StatusTLS struct {
	CertFile     string // set if and only if KeyFile is; "" speaks plain HTTP
	KeyFile      string
	CAFile       string // authorities of the other sidecars' certificates; "": no token is sent to them
	ClientCAFile string // clients need a certificate of these authorities; "" lets in all
}

// apiSettings are those under the key api.
func apiSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "api.address", flagged: true, restart: true, def: "127.0.0.1:9600",
			doc: "Listen address of the sidecar's status page, metrics and API. Port 0 takes a free port. Leaving instances ask this address, so it must be reachable from other machines.",
			at:  func(c *Config) value { return text{&c.API.Address, "host:port", listenAddress} },
		},
		{
			key: "api.socket", restart: true, derived: "`haproxy.config` with `.api.sock` appended; none if that is too long for a socket",
			doc: "Unix socket with the same API, for `pointsman guard release` and other actions. Its mode is 0600, so only the sidecar's user and root can open it. Empty disables it; actions then need `api.token_file`.",
			at:  func(c *Config) value { return text{&c.API.Socket, "path", orEmpty(unixSocket)} },
		},
		{
			key: "api.max_connections", restart: true, def: "8192",
			doc: "Maximum connections to `api.address`. Further connections are closed at once. The limit is lower if the sidecar may open few files: see [the API](api.md).",
			at:  func(c *Config) value { return atLeast(&c.API.MaxConnections, 16) },
		},
		{
			key: "api.max_connections_per_address", restart: true, def: "1024",
			doc: "Maximum connections from one IPv4 address or one IPv6 /64 network; at most half of `api.max_connections`.",
			at:  func(c *Config) value { return atLeast(&c.API.MaxPerAddress, 8) },
		},
		{
			key: "api.hosts", def: "[]",
			doc: "Additional host names that requests may use for the sidecar, besides `name`, the hosts of `api.address` and `api.advertise`, `localhost` and any IP address. Requests with other names get 403, as protection against DNS rebinding. Not checked if a token is required.",
			at:  func(c *Config) value { return listOf(&c.API.Hosts, "host name", name) },
		},
		{
			key: "api.service", restart: true, def: "pointsman-sidecar",
			doc: "Service name under which the sidecar registers itself in Consul. Leaving instances and deployments find it by this name. Empty disables the registration. See [drain](drain.md).",
			at:  func(c *Config) value { return text{&c.API.Service, "name", orEmpty(name)} },
		},
		{
			key: "api.advertise", derived: "`api.address`; if that is a wildcard, the sidecar's address on the route to Consul, or the Consul node's address if Consul is on this machine",
			doc: "Address at which others reach the sidecar: an IP address or host name, with a port if different from `api.address`. A host name is resolved repeatedly and its address registered.",
			at: func(c *Config) value {
				return text{&c.API.Advertise, "IP address or host name, perhaps with a port", orEmpty(advertise)}
			},
		},
		{
			key: "api.token", restart: true,
			doc: "Bearer token that requests need, except for `/healthz`. Prefer `api.token_file`.",
			at:  func(c *Config) value { return secret{&c.API.Token, token} },
		},
		{
			key: "api.token_file", restart: true,
			doc: "File with the bearer token. The sidecar reads the file again when it changes.",
			at:  func(c *Config) value { return text{&c.API.TokenFile, "path", orEmpty(path)} },
		},
		{
			key: "api.signing_key_file", restart: true,
			doc: "File with a key of at least 32 characters, the same for all sidecars and for the programs that leave (`--sidecar-signing-key-file`). With several keys, one a line, the sidecar signs with the first ([replace a key](registrator.md#replace-the-signing-key)). Answers about drains are signed with it (HMAC-SHA-256), for instances that accept only signed answers. The sidecar reads the file again for each answer.",
			at:  func(c *Config) value { return text{&c.API.SigningKeyFile, "path", orEmpty(path)} },
		},
	}
}

// apiTLSSettings are those of the API's TLS.
func apiTLSSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "api.tls.cert_file", restart: true,
			doc: "PEM file with the API's certificate. The API then uses TLS only. The sidecar reads the file again when it changes.",
			at:  func(c *Config) value { return text{&c.API.TLS.CertFile, "path", orEmpty(path)} },
		},
		{
			key: "api.tls.key_file", restart: true,
			doc: "PEM file with the key of `api.tls.cert_file`.",
			at:  func(c *Config) value { return text{&c.API.TLS.KeyFile, "path", orEmpty(path)} },
		},
		{
			key: "api.tls.ca_file", restart: true,
			doc: "PEM file with the authorities of the other sidecars' certificates, for the [view of the fleet](page.md#all-load-balancers). The sidecar asks them with its own token and certificate then, over TLS only. Without it no token is sent.",
			at:  func(c *Config) value { return text{&c.API.TLS.CAFile, "path", orEmpty(path)} },
		},
		{
			key: "api.tls.client_ca_file", restart: true,
			doc: "PEM file with authorities for client certificates. Requests without such a certificate are refused, except for `/healthz`.",
			at:  func(c *Config) value { return text{&c.API.TLS.ClientCAFile, "path", orEmpty(path)} },
		},
	}
}

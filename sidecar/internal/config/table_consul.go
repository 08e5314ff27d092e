package config

import "time"

// consulSettings are those under the key consul. The environment variables are
// the ones that Consul's own clients read (consul/api, api.go).
func consulSettings() []setting[Config] {
	return append(consulConnection(), consulReading()...)
}

func consulConnection() []setting[Config] {
	return []setting[Config]{
		{
			key: "consul.address", def: "127.0.0.1:8500", consulEnv: "CONSUL_HTTP_ADDR",
			doc: "Consul's HTTP API. Best the agent on the same machine.",
			at: func(c *Config) value {
				return text{&c.Consul.Address, "`host:port`, `http://…`, `https://…` or `unix:///path`", consulAddress}
			},
		},
		{
			key: "consul.ssl", def: "false", consulEnv: "CONSUL_HTTP_SSL",
			doc: "Speak TLS though the address does not begin with `https://`.",
			at:  func(c *Config) value { return yesNo{&c.Consul.SSL} },
		},
		{
			key: "consul.token", consulEnv: "CONSUL_HTTP_TOKEN", noFlag: true,
			doc: "The ACL token. Rather use `consul.token_file`. There is no flag: others can read command lines.",
			at:  func(c *Config) value { return secret{&c.Consul.Token, token} },
		},
		{
			key: "consul.token_file", consulEnv: "CONSUL_HTTP_TOKEN_FILE",
			doc: "A file that holds the ACL token. It is read again when it changes.",
			at:  func(c *Config) value { return text{&c.Consul.TokenFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.http_auth", consulEnv: "CONSUL_HTTP_AUTH", noFlag: true,
			doc: "`user:password` of HTTP basic authentication, for a proxy before Consul. There is no flag.",
			at:  func(c *Config) value { return secret{&c.Consul.HTTPAuth, userPassword} },
		},
		{
			key: "consul.ca_file", consulEnv: "CONSUL_CACERT",
			doc: "The certificate authority that Consul's certificate is checked against. This and the files below are read again for each new connection.",
			at:  func(c *Config) value { return text{&c.Consul.CAFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.ca_path", consulEnv: "CONSUL_CAPATH",
			doc: "A directory of such certificates.",
			at:  func(c *Config) value { return text{&c.Consul.CAPath, "path", orEmpty(path)} },
		},
		{
			key: "consul.cert_file", consulEnv: "CONSUL_CLIENT_CERT",
			doc: "The sidecar's own certificate, with `consul.key_file`.",
			at:  func(c *Config) value { return text{&c.Consul.CertFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.key_file", consulEnv: "CONSUL_CLIENT_KEY",
			doc: "The key of that certificate.",
			at:  func(c *Config) value { return text{&c.Consul.KeyFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.server_name", consulEnv: "CONSUL_TLS_SERVER_NAME",
			doc: "The name that Consul's certificate must be for, where the address has another.",
			at:  func(c *Config) value { return text{&c.Consul.ServerName, "host name", orEmpty(hostName)} },
		},
		{
			key: "consul.insecure_skip_verify", def: "false", consulEnv: "CONSUL_HTTP_SSL_VERIFY", inverted: true,
			doc: "Do not check Consul's certificate. `CONSUL_HTTP_SSL_VERIFY` says the opposite.",
			at:  func(c *Config) value { return yesNo{&c.Consul.InsecureSkipVerify} },
		},
	}
}

func consulReading() []setting[Config] {
	return []setting[Config]{
		{
			key: "consul.datacenter", derived: "the agent's",
			doc: "The datacenter to read.",
			at:  func(c *Config) value { return text{&c.Consul.Datacenter, "name", orEmpty(name)} },
		},
		{
			key: "consul.namespace", consulEnv: "CONSUL_NAMESPACE", derived: "the token's",
			doc: "The namespace to read (Consul Enterprise).",
			at:  func(c *Config) value { return text{&c.Consul.Namespace, "name", orEmpty(name)} },
		},
		{
			key: "consul.partition", consulEnv: "CONSUL_PARTITION", derived: "the agent's",
			doc: "The admin partition to read (Consul Enterprise).",
			at:  func(c *Config) value { return text{&c.Consul.Partition, "name", orEmpty(name)} },
		},
		{
			key: "consul.max_stale", def: "0s",
			doc: "Take answers of Consul servers that last heard from their leader so long ago. 0s asks the leader.",
			at:  func(c *Config) value { return span{&c.Consul.MaxStale, 0, time.Hour} },
		},
		{
			key: "consul.wait", def: "5m",
			doc: "How long Consul may hold a query while nothing changes.",
			at:  func(c *Config) value { return span{&c.Consul.Wait, time.Second, 10 * time.Minute} },
		},
	}
}

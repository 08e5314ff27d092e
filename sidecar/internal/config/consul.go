package config

import (
	"time"
)

// Consul is how the catalog is reached and read.
type Consul struct {
	// Address is what Consul's own clients take: host:port, http://…,
	// https://… or unix:///path.
	Address string
	SSL     bool // TLS though Address does not say https

	// At most one of Token and TokenFile is set.
	Token     Secret
	TokenFile string

	CAFile             string
	CAPath             string
	CertFile           string // set if and only if KeyFile is
	KeyFile            string
	ServerName         string // expected in Consul's certificate
	InsecureSkipVerify bool
	HTTPAuth           Secret // user:password for a proxy before Consul

	Datacenter string
	Namespace  string
	Partition  string

	// MaxStale allows answers of followers that last heard from the leader at
	// most this time ago; 0 asks the leader.
	MaxStale time.Duration
	Wait     time.Duration // how long Consul may hold a blocking query
}

// consulConnection and consulReading are the settings under the key consul. The
// environment variables are the ones that Consul's own clients read (consul/api, api.go).
func consulConnection() []setting[Config] {
	return []setting[Config]{
		{
			key: "consul.address", flagged: true, restart: true, def: "127.0.0.1:8500", consulEnv: "CONSUL_HTTP_ADDR",
			doc: "Address of Consul's HTTP API, preferably of the agent on the same machine.",
			at: func(c *Config) value {
				return text{&c.Consul.Address, "`host:port`, `http://…`, `https://…` or `unix:///path`", consulAddress}
			},
		},
		{
			key: "consul.ssl", restart: true, def: "false", consulEnv: "CONSUL_HTTP_SSL",
			doc: "Use TLS even if the address does not begin with `https://`.",
			at:  func(c *Config) value { return yesNo{&c.Consul.SSL} },
		},
		{
			key: "consul.token", restart: true, consulEnv: "CONSUL_HTTP_TOKEN",
			doc: "ACL token. Prefer `consul.token_file`. There is no flag, because other users can read command lines.",
			at:  func(c *Config) value { return secret{&c.Consul.Token, token} },
		},
		{
			key: "consul.token_file", flagged: true, restart: true, consulEnv: "CONSUL_HTTP_TOKEN_FILE",
			doc: "File with the ACL token. The sidecar reads the file again when it changes.",
			at:  func(c *Config) value { return text{&c.Consul.TokenFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.http_auth", restart: true, consulEnv: "CONSUL_HTTP_AUTH",
			doc: "`user:password` for HTTP basic authentication at a proxy in front of Consul. There is no flag.",
			at:  func(c *Config) value { return secret{&c.Consul.HTTPAuth, userPassword} },
		},
		{
			key: "consul.ca_file", flagged: true, restart: true, consulEnv: "CONSUL_CACERT",
			doc: "File with the certificate authority of Consul's certificate. TLS files are read again for each new connection.",
			at:  func(c *Config) value { return text{&c.Consul.CAFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.ca_path", restart: true, consulEnv: "CONSUL_CAPATH",
			doc: "Directory with certificate authorities of Consul's certificate.",
			at:  func(c *Config) value { return text{&c.Consul.CAPath, "path", orEmpty(path)} },
		},
		{
			key: "consul.cert_file", flagged: true, restart: true, consulEnv: "CONSUL_CLIENT_CERT",
			doc: "File with the sidecar's client certificate for Consul. Needs `consul.key_file`.",
			at:  func(c *Config) value { return text{&c.Consul.CertFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.key_file", flagged: true, restart: true, consulEnv: "CONSUL_CLIENT_KEY",
			doc: "File with the key of `consul.cert_file`.",
			at:  func(c *Config) value { return text{&c.Consul.KeyFile, "path", orEmpty(path)} },
		},
		{
			key: "consul.server_name", restart: true, consulEnv: "CONSUL_TLS_SERVER_NAME",
			doc: "Server name in Consul's certificate, if different from the address.",
			at:  func(c *Config) value { return text{&c.Consul.ServerName, "host name", orEmpty(hostName)} },
		},
		{
			key: "consul.insecure_skip_verify", restart: true, def: "false", consulEnv: "CONSUL_HTTP_SSL_VERIFY", inverted: true,
			doc: "Skip verification of Consul's certificate. `CONSUL_HTTP_SSL_VERIFY` has the opposite meaning.",
			at:  func(c *Config) value { return yesNo{&c.Consul.InsecureSkipVerify} },
		},
	}
}

func consulReading() []setting[Config] {
	return []setting[Config]{
		{
			key: "consul.datacenter", restart: true, derived: "the agent's",
			doc: "Consul datacenter.",
			at:  func(c *Config) value { return text{&c.Consul.Datacenter, "name", orEmpty(name)} },
		},
		{
			key: "consul.namespace", restart: true, consulEnv: "CONSUL_NAMESPACE", derived: "the token's",
			doc: "Consul namespace (Consul Enterprise).",
			at:  func(c *Config) value { return text{&c.Consul.Namespace, "name", orEmpty(name)} },
		},
		{
			key: "consul.partition", restart: true, consulEnv: "CONSUL_PARTITION", derived: "the agent's",
			doc: "Consul admin partition (Consul Enterprise).",
			at:  func(c *Config) value { return text{&c.Consul.Partition, "name", orEmpty(name)} },
		},
		{
			key: "consul.max_stale", restart: true, def: "0s",
			doc: "Oldest contact with the leader that a Consul server may have to answer queries. 0s queries the leader.",
			at:  func(c *Config) value { return span{&c.Consul.MaxStale, 0, time.Hour} },
		},
		{
			key: "consul.wait", restart: true, def: "5m",
			doc: "Longest time that Consul holds a blocking query.",
			at:  func(c *Config) value { return span{&c.Consul.Wait, time.Second, 10 * time.Minute} },
		},
	}
}

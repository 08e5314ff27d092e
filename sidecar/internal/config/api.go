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

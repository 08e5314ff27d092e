package config

import "time"

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

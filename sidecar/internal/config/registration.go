package config

import (
	"net/netip"
	"time"
)

// Registration is this load balancer as a service in Consul, by which clients find
// it.
type Registration struct {
	Service string   // its name; "" registers nothing
	Address string   // where clients reach HAProxy: an IP address or a host's name; "" is to be found out
	Port    int      // 0 only where Service is ""
	Tags    []string // of the registration

	Check           BalancerCheck
	DeregisterAfter time.Duration // how long the check may fail until Consul forgets the service
}

// BalancerCheck is how Consul finds out whether HAProxy serves.
type BalancerCheck struct {
	URL      string // what Consul's agent asks; "" is HAProxy's own health answer, see Health
	Interval time.Duration
	Timeout  time.Duration
}

// Health is HAProxy's own answer to whether this load balancer takes traffic.
type Health struct {
	Bind string // as on a bind line; "" is none
	URI  string
}

// BindAddrPort gives the first address of a bind line that Load has passed; it
// is not valid for a unix socket, and unspecified for "*".
func BindAddrPort(bind string) netip.AddrPort {
	if all, err := listeners(bind); err == nil {
		return all[0].at
	}
	return netip.AddrPort{}
}

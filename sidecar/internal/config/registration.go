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
	URL      string // what Consul's agent asks; "" is HAProxy's own health answer, HAProxy.Health
	Interval time.Duration
	Timeout  time.Duration
}

// BindAddrPort returns the first address of a bind line that Load has passed; it
// is not valid for a unix socket, and unspecified for "*".
func BindAddrPort(bind string) netip.AddrPort {
	if all, err := listeners(bind); err == nil {
		return all[0].at
	}
	return netip.AddrPort{}
}

// registrationSettings are those under the key balancer.
func registrationSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "registration.service", derived: "not registered",
			doc: "Service name under which this load balancer is registered in Consul for its clients, such as `lb`. Needs `haproxy.health.bind` or `registration.check.url`. See [maintenance](maintenance.md).",
			at:  func(c *Config) value { return text{&c.Registration.Service, "name", orEmpty(name)} },
		},
		{
			key: "registration.address", derived: "the sidecar's address on the route to Consul; the Consul node's address if Consul is on this machine",
			doc: "Address at which clients reach HAProxy. A host name is resolved repeatedly and its address registered.",
			at: func(c *Config) value {
				return text{&c.Registration.Address, "IP address or host name", orEmpty(balancerAddress)}
			},
		},
		{
			key: "registration.port", def: "0", derived: "the port that the services bind",
			doc: "Port at which clients reach HAProxy. Required if the services bind several ports.",
			at:  func(c *Config) value { return number{&c.Registration.Port, 0, 65535} },
		},
		{
			key: "registration.tags", def: "[]",
			doc: "Tags of the load balancer's registration.",
			at:  func(c *Config) value { return listOf(&c.Registration.Tags, "tag", someLine) },
		},
		{
			key: "registration.check.url", derived: "HAProxy's health answer: `registration.address`, with port and path of `haproxy.health`",
			doc: "URL of the health check that Consul's agent runs against this load balancer. A 2xx answer passes.",
			at:  func(c *Config) value { return text{&c.Registration.Check.URL, "URL", orEmpty(checkURL)} },
		},
		{
			key: "registration.check.interval", def: "1s",
			doc: "Interval of the load balancer's health check in Consul. Clients notice a maintenance within this time.",
			at:  func(c *Config) value { return span{&c.Registration.Check.Interval, time.Second, time.Hour} },
		},
		{
			key: "registration.check.timeout", def: "1s",
			doc: "Timeout of the load balancer's health check in Consul.",
			at:  func(c *Config) value { return span{&c.Registration.Check.Timeout, time.Millisecond, time.Hour} },
		},
		{
			key: "registration.deregister_after", def: "1m",
			doc: "Time of failing checks after which Consul removes the registration. The sidecar registers again when HAProxy is back.",
			at:  func(c *Config) value { return span{&c.Registration.DeregisterAfter, time.Minute, 30 * 24 * time.Hour} },
		},
	}
}

package config

import "time"

// balancerSettings are those under the key balancer.
func balancerSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "balancer.service", derived: "not registered",
			doc: "The service as which this load balancer is registered in Consul, such as `lb`, for clients to find it. Needs `haproxy.health.bind` or `balancer.check.url`. See [maintenance](maintenance.md).",
			at:  func(c *Config) value { return text{&c.Balancer.Service, "name", orEmpty(name)} },
		},
		{
			key: "balancer.address", derived: "the sidecar's on its way to Consul; the Consul node's where Consul is on this machine",
			doc: "Where clients reach HAProxy. A host's name is looked up again and again, and its address registered.",
			at: func(c *Config) value {
				return text{&c.Balancer.Address, "IP address or host name", orEmpty(balancerAddress)}
			},
		},
		{
			key: "balancer.port", def: "0", derived: "the services' one",
			doc: "The port there. It has to be set where the services bind several.",
			at:  func(c *Config) value { return number{&c.Balancer.Port, 0, 65535} },
		},
		{
			key: "balancer.tags", def: "[]",
			doc: "Tags of the registration.",
			at: func(c *Config) value {
				return list{p: &c.Balancer.Tags, what: "tag, or a list of them", item: tag}
			},
		},
		{
			key: "balancer.check.url", derived: "HAProxy's health answer: `balancer.address`, with port and path of `haproxy.health`",
			doc: "What Consul's agent asks to know whether this load balancer serves: 2xx is yes.",
			at:  func(c *Config) value { return text{&c.Balancer.Check.URL, "URL", orEmpty(checkURL)} },
		},
		{
			key: "balancer.check.interval", def: "1s",
			doc: "Between two of these checks. Clients learn of a maintenance after so long at most.",
			at:  func(c *Config) value { return span{&c.Balancer.Check.Interval, time.Second, time.Hour} },
		},
		{
			key: "balancer.check.timeout", def: "1s",
			doc: "For an answer to it.",
			at:  func(c *Config) value { return span{&c.Balancer.Check.Timeout, time.Millisecond, time.Hour} },
		},
		{
			key: "balancer.deregister_after", def: "1m",
			doc: "After so long without a good check Consul forgets the registration. It comes back with HAProxy.",
			at:  func(c *Config) value { return span{&c.Balancer.DeregisterAfter, time.Minute, 30 * 24 * time.Hour} },
		},
	}
}

package config

import "time"

// serviceSettings is the table of the settings of one service. They stand in
// the file only: there may be any number of services.
func serviceSettings() []setting[Service] {
	table := serviceRoute()
	table = append(table, serviceInstances()...)
	table = append(table, serviceLeave()...)
	table = append(table, serviceDamping()...)
	table = append(table, serviceCheck()...)
	table = append(table, serviceRoom()...)
	return append(table, serviceLines()...)
}

func serviceRoute() []setting[Service] {
	return []setting[Service]{
		{
			key: "name", derived: "must be set",
			doc: "The service's name in Consul.",
			at:  func(s *Service) value { return text{&s.Name, "name", name} },
		},
		{
			key: "backend", derived: "the service's name",
			doc: "The backend's name in HAProxy.",
			at:  func(s *Service) value { return text{&s.Backend, "name", name} },
		},
		{
			key: "bind", def: "[]",
			doc: "Where HAProxy listens for it: addresses such as `*:80`, with a bind line's options after them if need be. None makes a backend only.",
			at: func(s *Service) value {
				return list{p: &s.Bind, what: "bind line, or a list of them", item: bind}
			},
		},
		{
			key: "mode", def: "http",
			doc: "What HAProxy understands of the traffic.",
			at:  func(s *Service) value { return oneOf(&s.Mode, HTTP, TCP) },
		},
		{
			key: "balance", def: "roundrobin",
			doc: "How a server is chosen: the words after `balance`. A static algorithm cannot take new servers at runtime and uses slots; free ones are kept until HAProxy has taken a server without.",
			at:  func(s *Service) value { return text{&s.Balance, "words", balance} },
		},
	}
}

func serviceInstances() []setting[Service] {
	return []setting[Service]{
		{
			key: "tags", def: "[]",
			doc: "Only instances that have all these tags. One that loses a tag leaves the backend at once: see [primary and replica](guides/primary-replica.md). A service may be listed several times, with other tags and another `backend`.",
			at: func(s *Service) value {
				return list{p: &s.Tags, what: "tag, or a list of them", item: tag}
			},
		},
		{
			key: "filter", derived: "none",
			doc: "Only instances that [Consul's filter expression](https://developer.hashicorp.com/consul/api-docs/features/filtering) passes, such as `Service.Meta.region == \"eu\"`.",
			at:  func(s *Service) value { return text{&s.Filter, "text", oneLine} },
		},
		{
			key: "resolve", def: "false",
			doc: "Look up a host name in an instance's `Service.Address`, as external services have it, every 5 s. Of several addresses the server keeps its own while that is among them; else it gets the lowest, IPv4 first. While lookups fail it keeps the last one. The rules of `addresses` hold for what is found. Without it an instance with a host name is left out; `sidecar check` shows it.",
			at:  func(s *Service) value { return yesNo{&s.Resolve} },
		},
		{
			key: "warning", def: "in",
			doc: "Whether an instance whose checks are in warning takes traffic.",
			at:  func(s *Service) value { return oneOf(&s.Warning, WarningIn, WarningOut) },
		},
		{
			key: "addresses.allow", def: "[]", derived: "`addresses.allow` of all services",
			doc: "Only instances at these addresses, in place of `addresses.allow` of all services.",
			at:  func(s *Service) value { return prefixes(&s.Addresses.Allow) },
		},
		{
			key: "addresses.deny", def: "[]",
			doc: "No instances at these addresses, besides those of `addresses.deny` of all services.",
			at:  func(s *Service) value { return prefixes(&s.Addresses.Deny) },
		},
	}
}

func serviceLeave() []setting[Service] {
	return []setting[Service]{
		{
			key: "drain_timeout", def: "30s",
			doc: "How long a leaving server may finish its sessions.",
			at:  func(s *Service) value { return span{&s.DrainTimeout, 0, haproxyMax} },
		},
		{
			key: "shutdown_after", def: "5s",
			doc: "And so long after that HAProxy ends the sessions that are left, such as WebSockets and streams. 0s leaves them to the node.",
			at:  func(s *Service) value { return span{&s.ShutdownAfter, 0, haproxyMax} },
		},
		{
			key: "drain_sticky", def: "keep",
			doc: "Whether clients that stick to a leaving server by a cookie or a stick table stay there until the drain ends (`keep`), or go to another server with their next request (`move`). See [sticky sessions](guides/sticky-sessions.md).",
			at:  func(s *Service) value { return oneOf(&s.DrainSticky, StickyKeep, StickyMove) },
		},
		{
			key: "close_on_role_change", def: "false",
			doc: "End the sessions on an instance at once when it loses one of `tags`. By default they may finish within `drain_timeout` and `shutdown_after`. See [primary and replica](guides/primary-replica.md).",
			at:  func(s *Service) value { return yesNo{&s.CloseOnRoleChange} },
		},
		{
			key: "replacement_timeout", def: "30s",
			doc: "How long a server waits to leave for one that does not come up.",
			at:  func(s *Service) value { return span{&s.ReplacementTimeout, 0, haproxyMax} },
		},
		{
			key: "min_servers", def: "1",
			doc: "So many servers stay, however many are lost unannounced.",
			at:  func(s *Service) value { return atLeast(&s.MinServers, 0) },
		},
		{
			key: "max_removal", def: "0.5",
			doc: "The share of the servers that may be lost unannounced at once. What is more is held, and left to HAProxy's own checks. See [guard](guard.md).",
			at:  func(s *Service) value { return share{&s.MaxRemoval} },
		},
		{
			key: "guard.window", def: "30s",
			doc: "Servers that become unhealthy within so long count as lost at once.",
			at:  func(s *Service) value { return span{&s.Guard.Window, 0, 24 * time.Hour} },
		},
		{
			key: "guard.hold", def: "0s",
			doc: "After so long what is held is let go, as far as `min_servers`. 0s holds it until it is well, HAProxy sees it down too, or an operator lets it go: `sidecar guard release`.",
			at:  func(s *Service) value { return span{&s.Guard.Hold, 0, 30 * 24 * time.Hour} },
		},
	}
}

func serviceDamping() []setting[Service] {
	return []setting[Service]{
		{
			key: "damping.flaps", def: "3",
			doc: "An instance that became unhealthy in Consul so many times is let in only once it has been well for a while. Each is judged by itself. 0 damps nobody. See [guard](guard.md).",
			at:  func(s *Service) value { return number{&s.Damping.Flaps, 0, 1000} },
		},
		{
			key: "damping.min", def: "10s",
			doc: "For so long, at first. It doubles with each further time.",
			at:  func(s *Service) value { return span{&s.Damping.Min, time.Millisecond, time.Hour} },
		},
		{
			key: "damping.max", def: "5m",
			doc: "And for so long at most.",
			at:  func(s *Service) value { return span{&s.Damping.Max, time.Millisecond, 24 * time.Hour} },
		},
		{
			key: "damping.forget", def: "10m",
			doc: "After so long without another time all is forgotten.",
			at:  func(s *Service) value { return span{&s.Damping.Forget, time.Second, 24 * time.Hour} },
		},
	}
}

func serviceCheck() []setting[Service] {
	every := func(key, def, doc string, p func(*Check) *time.Duration) setting[Service] {
		return setting[Service]{
			key: "check." + key, def: def, doc: doc,
			at: func(s *Service) value { return span{p(&s.Check), time.Millisecond, time.Hour} },
		}
	}
	return []setting[Service]{
		{
			key: "check.enabled", def: "true",
			doc: "HAProxy checks the servers itself, beside Consul.",
			at:  func(s *Service) value { return yesNo{&s.Check.Enabled} },
		},
		{
			key: "check.path", derived: "`/healthz` in mode http",
			doc: "What is asked for. Empty checks that a connection is accepted, as mode tcp does.",
			at:  func(s *Service) value { return text{&s.Check.Path, "path in a URL", orEmpty(urlPath)} },
		},
		{
			key: "check.host", derived: "`backend`",
			doc: "The `Host` header of the check. HTTP/1.1 needs one.",
			at:  func(s *Service) value { return text{&s.Check.Host, "word", orEmpty(word)} },
		},
		every("inter", "1s", "Between two checks of a server that is up.",
			func(c *Check) *time.Duration { return &c.Inter }),
		every("fast_inter", "250ms", "Between two checks while the server is changing.",
			func(c *Check) *time.Duration { return &c.FastInter }),
		every("down_inter", "250ms", "Between two checks of a server that is down.",
			func(c *Check) *time.Duration { return &c.DownInter }),
		every("timeout", "1s", "For an answer to a check.",
			func(c *Check) *time.Duration { return &c.Timeout }),
		{
			key: "check.rise", def: "2",
			doc: "So many good checks make a server up.",
			at:  func(s *Service) value { return number{&s.Check.Rise, 1, 1000} },
		},
		{
			key: "check.fall", def: "3",
			doc: "So many bad ones make it down.",
			at:  func(s *Service) value { return number{&s.Check.Fall, 1, 1000} },
		},
	}
}

func serviceRoom() []setting[Service] {
	return []setting[Service]{
		{
			key: "slots.min", def: "10",
			doc: "Where HAProxy cannot add servers at runtime (before 3.0, or by a static balance algorithm): room for so many.",
			at:  func(s *Service) value { return number{&s.Slots.Min, 1, 10000} },
		},
		{
			key: "slots.spare", def: "4",
			doc: "And so many of it free after each reload.",
			at:  func(s *Service) value { return number{&s.Slots.Spare, 0, 10000} },
		},
		{
			key: "slots.force", def: "false",
			doc: "Use slots everywhere.",
			at:  func(s *Service) value { return yesNo{&s.Slots.Force} },
		},
	}
}

func serviceLines() []setting[Service] {
	return []setting[Service]{
		{
			key: "retry_on", def: "[]", derived: "`[conn-failure, empty-response]` in mode http",
			doc: "What is tried again on another server, for methods that may be repeated. Mode http only.",
			at: func(s *Service) value {
				return list{p: &s.RetryOn, what: "list of words", item: retryOn}
			},
		},
		{
			key: "server_options", derived: "none",
			doc: "Further keywords of HAProxy's server line for every server, such as `ssl verify required ca-file /etc/ssl/api.pem`. A server added at runtime gets the same as one in haproxy.cfg; keywords that would differ are refused. See [server options](server-options.md).",
			at:  func(s *Service) value { return text{&s.ServerOptions, "words", orEmpty(plainWords)} },
		},
		{
			key: "frontend_extra", def: "[]",
			doc: "Further lines of the frontend.",
			at:  func(s *Service) value { return extra(&s.FrontendExtra) },
		},
		{
			key: "backend_extra", def: "[]",
			doc: "Further lines of the backend. `cookie` needs `dynamic`, see [sticky sessions](guides/sticky-sessions.md). `server` lines here declare servers of your own, which are left alone; `default-server` is refused, because HAProxy does not apply it to servers added at runtime.",
			at:  func(s *Service) value { return extra(&s.BackendExtra) },
		},
	}
}

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
	table = append(table, servicePolicy()...)
	table = append(table, serviceRoom()...)
	return append(table, serviceLines()...)
}

func serviceRoute() []setting[Service] {
	return []setting[Service]{
		{
			key: "name", derived: "required",
			doc: "Name of the service in Consul.",
			at:  func(s *Service) value { return text{&s.Name, "name", name} },
		},
		{
			key: "backend", derived: "the service's name",
			doc: "Name of the backend in HAProxy.",
			at:  func(s *Service) value { return text{&s.Backend, "name", name} },
		},
		{
			key: "bind", def: "[]",
			doc: "HAProxy `bind` addresses of the service, such as `*:80`, with optional bind options after each address. One port may belong to one service, frontend or listener of HAProxy only, `*:80` and `10.0.0.1:80` included. Without an address there is only a backend.",
			at: func(s *Service) value {
				return list{p: &s.Bind, what: "bind line, or a list of them", item: bind}
			},
		},
		{
			key: "certificates.directory", derived: "none",
			doc: "Directory of certificates for those `bind` addresses that have the word `ssl`. New, renewed and removed ones are changed in HAProxy without a reload. See [certificates](guides/certificates.md).",
			at:  func(s *Service) value { return text{&s.Certificates.Directory, "path", orEmpty(path)} },
		},
		{
			key: "mode", def: "http",
			doc: "HAProxy `mode`.",
			at:  func(s *Service) value { return oneOf(&s.Mode, HTTP, TCP) },
		},
		{
			key: "balance", def: "roundrobin",
			doc: "HAProxy `balance` algorithm. A static algorithm cannot take new servers at runtime, so its backend uses slots. Free slots remain until HAProxy accepts a server without a slot.",
			at:  func(s *Service) value { return text{&s.Balance, "words", balance} },
		},
	}
}

func serviceInstances() []setting[Service] {
	return []setting[Service]{
		{
			key: "tags", def: "[]",
			doc: "Tags that an instance must have, all of them. One that loses a tag leaves the backend at once: see [primary and replica](guides/primary-replica.md). A service may be listed several times, with other tags and another `backend`.",
			at: func(s *Service) value {
				return list{p: &s.Tags, what: "tag, or a list of them", item: tag}
			},
		},
		{
			key: "filter", derived: "none",
			doc: "[Consul filter expression](https://developer.hashicorp.com/consul/api-docs/features/filtering) that an instance must match, such as `Service.Meta.region == \"eu\"`.",
			at:  func(s *Service) value { return text{&s.Filter, "text", oneLine} },
		},
		{
			key: "resolve", def: "false",
			doc: "Look up a host name in an instance's `Service.Address`, as external services have it, every 5 s. Of several addresses the server keeps its own while that is among them; else it gets the lowest, IPv4 first. While lookups fail it keeps the last one. The rules of `addresses` hold for what is found. Without it an instance with a host name is left out; `pointsman check` shows it.",
			at:  func(s *Service) value { return yesNo{&s.Resolve} },
		},
		{
			key: "max_instances", def: "10000",
			doc: "Largest number of instances. The ones that were registered first are used, on every load balancer the same; the others are left out, and counted in the log, the state and `pointsman_instances_beyond_limit`. 0 is no limit.",
			at:  func(s *Service) value { return atLeast(&s.MaxInstances, 0) },
		},
		{
			key: "warning_takes_traffic", def: "true",
			doc: "Whether an instance whose checks are in warning takes traffic.",
			at:  func(s *Service) value { return yesNo{&s.WarningTakesTraffic} },
		},
		{
			key: "addresses.allow", def: "[]", derived: "`addresses.allow` of all services",
			doc: "Networks whose instances take traffic. Replaces the `addresses.allow` of all services.",
			at:  func(s *Service) value { return prefixes(&s.Addresses.Allow) },
		},
		{
			key: "addresses.deny", def: "[]",
			doc: "Networks whose instances take no traffic, in addition to the `addresses.deny` of all services.",
			at:  func(s *Service) value { return prefixes(&s.Addresses.Deny) },
		},
	}
}

func serviceLeave() []setting[Service] {
	return []setting[Service]{
		{
			key: "drain_timeout", def: "30s",
			doc: "Longest time that a leaving server may finish its sessions.",
			at:  func(s *Service) value { return span{&s.DrainTimeout, 0, haproxyMax} },
		},
		{
			key: "session_kill_after", def: "5s",
			doc: "Time after `drain_timeout` until HAProxy ends the remaining sessions, such as WebSockets and streams. 0s leaves them to the node.",
			at:  func(s *Service) value { return span{&s.SessionKillAfter, 0, haproxyMax} },
		},
		{
			key: "drain_sticky", def: "keep",
			doc: "Whether clients that stick to a leaving server by a cookie or a stick table stay there until the drain ends (`keep`), or go to another server with their next request (`move`). See [sticky sessions](guides/sticky-sessions.md).",
			at:  func(s *Service) value { return oneOf(&s.DrainSticky, StickyKeep, StickyMove) },
		},
		{
			key: "close_on_role_change", def: "false",
			doc: "End the sessions on an instance at once when it loses one of `tags`. By default they may finish within `drain_timeout` and `session_kill_after`. See [primary and replica](guides/primary-replica.md).",
			at:  func(s *Service) value { return yesNo{&s.CloseOnRoleChange} },
		},
		{
			key: "replacement_timeout", def: "30s",
			doc: "Longest time that a leaving server waits for its replacement to come up.",
			at:  func(s *Service) value { return span{&s.ReplacementTimeout, 0, haproxyMax} },
		},
		{
			key: "min_servers", def: "1",
			doc: "Number of servers that the guard always keeps when instances disappear without draining.",
			at:  func(s *Service) value { return atLeast(&s.MinServers, 0) },
		},
		{
			key: "guard.max_loss_ratio", def: "0.5",
			doc: "Largest share of a service's servers that may disappear at once without draining. The guard keeps the others, and HAProxy's own checks decide. See [guard](guard.md).",
			at:  func(s *Service) value { return share{&s.Guard.MaxLossRatio} },
		},
		{
			key: "guard.window", def: "30s",
			doc: "Time window in which servers that become unhealthy count as lost at once.",
			at:  func(s *Service) value { return span{&s.Guard.Window, 0, 24 * time.Hour} },
		},
		{
			key: "guard.hold", def: "0s",
			doc: "Time after which the guard releases the servers it holds, down to `min_servers`. 0s holds them until they pass again, HAProxy sees them down too, or `pointsman guard release`.",
			at:  func(s *Service) value { return span{&s.Guard.Hold, 0, 30 * 24 * time.Hour} },
		},
		{
			key: "guard.hold_deregistered", def: "10m",
			doc: "Longest hold of a server whose instance is deregistered, as far as `min_servers`. 0s is without end. A server at whose address Consul lists an instance of another service is not held.",
			at:  func(s *Service) value { return span{&s.Guard.HoldDeregistered, 0, 30 * 24 * time.Hour} },
		},
	}
}

func serviceDamping() []setting[Service] {
	return []setting[Service]{
		{
			key: "damping.flaps", def: "3",
			doc: "Number of times an instance becomes unhealthy in Consul before it is suppressed for flapping. Counted for each instance. 0 disables suppression. See [guard](guard.md).",
			at:  func(s *Service) value { return number{&s.Damping.Flaps, 0, 1000} },
		},
		{
			key: "damping.min", def: "10s",
			doc: "Shortest suppression: time that a flapping instance must pass its checks. Doubles with each further failure.",
			at:  func(s *Service) value { return span{&s.Damping.Min, time.Millisecond, time.Hour} },
		},
		{
			key: "damping.max", def: "5m",
			doc: "Longest suppression.",
			at:  func(s *Service) value { return span{&s.Damping.Max, time.Millisecond, 24 * time.Hour} },
		},
		{
			key: "damping.forget", def: "10m",
			doc: "Time without a failure after which the failures of an instance are forgotten.",
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
			doc: "Enable HAProxy's own health checks, in addition to Consul's.",
			at:  func(s *Service) value { return yesNo{&s.Check.Enabled} },
		},
		{
			key: "check.path", derived: "`/healthz` in mode http",
			doc: "Path of HAProxy's health check. Empty checks only that the server accepts a connection, as mode tcp does.",
			at:  func(s *Service) value { return text{&s.Check.Path, "path in a URL", orEmpty(urlPath)} },
		},
		{
			key: "check.host", derived: "`backend`",
			doc: "`Host` header of HAProxy's health check.",
			at:  func(s *Service) value { return text{&s.Check.Host, "word", orEmpty(word)} },
		},
		every("inter", "1s", "HAProxy `inter`: interval of health checks of a server that is up.",
			func(c *Check) *time.Duration { return &c.Inter }),
		every("fast_inter", "250ms", "HAProxy `fastinter`: interval of health checks while a server's state changes.",
			func(c *Check) *time.Duration { return &c.FastInter }),
		every("down_inter", "250ms", "HAProxy `downinter`: interval of health checks of a server that is down.",
			func(c *Check) *time.Duration { return &c.DownInter }),
		every("timeout", "1s", "HAProxy `timeout check`.",
			func(c *Check) *time.Duration { return &c.Timeout }),
		{
			key: "check.rise", def: "2",
			doc: "HAProxy `rise`: number of passing checks that bring a server up.",
			at:  func(s *Service) value { return number{&s.Check.Rise, 1, 1000} },
		},
		{
			key: "check.fall", def: "3",
			doc: "HAProxy `fall`: number of failing checks that bring a server down.",
			at:  func(s *Service) value { return number{&s.Check.Fall, 1, 1000} },
		},
	}
}

func serviceRoom() []setting[Service] {
	return []setting[Service]{
		{
			key: "slots.min", def: "10",
			doc: "Least number of slots where HAProxy cannot add servers at runtime (before 3.0, or with a static balance algorithm).",
			at:  func(s *Service) value { return number{&s.Slots.Min, 1, 10000} },
		},
		{
			key: "slots.spare", def: "4",
			doc: "Least number of free slots after each reload.",
			at:  func(s *Service) value { return number{&s.Slots.Spare, 0, 10000} },
		},
		{
			key: "slots.force", def: "false",
			doc: "Use slots even where HAProxy can add servers at runtime.",
			at:  func(s *Service) value { return yesNo{&s.Slots.Force} },
		},
	}
}

func serviceLines() []setting[Service] {
	return []setting[Service]{
		{
			key: "retry_on", def: "[]", derived: "`[conn-failure, empty-response]` in mode http",
			doc: "HAProxy `retry-on` conditions for requests that may be repeated. Mode http only.",
			at: func(s *Service) value {
				return list{p: &s.RetryOn, what: "list of words", item: retryOn}
			},
		},
		{
			key: "server_options", derived: "none",
			doc: "Additional HAProxy `server` keywords, such as `ssl verify required ca-file /etc/ssl/api.pem`. A server added at runtime gets the same keywords as one in haproxy.cfg; keywords that would differ are refused. See [server options](server-options.md).",
			at:  func(s *Service) value { return text{&s.ServerOptions, "words", orEmpty(plainWords)} },
		},
		{
			key: "frontend_extra", def: "[]",
			doc: "Additional lines of the frontend.",
			at:  func(s *Service) value { return extra(&s.FrontendExtra) },
		},
		{
			key: "backend_extra", def: "[]",
			doc: "Additional lines of the backend. `cookie` needs `dynamic`, see [sticky sessions](guides/sticky-sessions.md). `server` lines declare your own servers, which Pointsman does not change. `default-server` is refused, because HAProxy does not apply it to servers added at runtime.",
			at:  func(s *Service) value { return extra(&s.BackendExtra) },
		},
	}
}

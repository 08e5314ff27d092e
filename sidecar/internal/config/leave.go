package config

import (
	"time"
)

// StickyPolicy is what becomes of clients that stick to a server that leaves.
type StickyPolicy string

// The policies.
const (
	StickyKeep StickyPolicy = "keep"
	StickyMove StickyPolicy = "move"
)

// Guard is how losses are counted together, and for how long they are held.
type Guard struct {
	MaxLossRatio float64       // share of servers, 0 to 1, that may be lost unannounced at once
	Window       time.Duration // servers that become unhealthy within it count as lost at once
	Hold         time.Duration // longest hold of a mass loss; 0 is without end

	HoldDeregistered time.Duration // the same for servers that Consul does not list
}

// Damping is how instances are kept out whose health changes often.
type Damping struct {
	Flaps  int           // number of failures that is too many; 0 damps no instance
	Min    time.Duration // how long such a one must stay well before it is let in, at first
	Max    time.Duration // and at most; Min at least
	Forget time.Duration // time without another failure after which all are forgotten
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
			doc: "Time after `drain_timeout` until HAProxy ends the remaining sessions, such as WebSockets and streams. 0s leaves them to the instance.",
			at:  func(s *Service) value { return span{&s.SessionKillAfter, 0, haproxyMax} },
		},
		{
			key: "session_kill_spread", def: "0s",
			doc: "Time over which HAProxy ends the remaining sessions, a part each second and at least one, so that their clients do not come back all at once. It begins `session_kill_after` after `drain_timeout`. 0s ends all at once. See [drain](drain.md#websockets-and-long-streams).",
			at:  func(s *Service) value { return span{&s.SessionKillSpread, 0, haproxyMax} },
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
			doc: "Longest hold of a server whose instance is deregistered, as far as `min_servers`. 0s is no limit. A server at whose address Consul lists an instance of another service is not held.",
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

package config

import (
	"fmt"
	"time"
)

// Sticky is how a client comes back to the same server.
type Sticky struct {
	Cookie  string // its name; "" is none
	Key     Secret // of the cookie's values; "" is made from the backend's name
	Secure  bool
	MaxIdle time.Duration
	MaxLife time.Duration

	Source  bool          // by the client's address
	Clients int           // addresses that are remembered
	Expire  time.Duration // without a request
}

func policySticky() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "sticky.cookie", derived: "none",
				doc: "Name of a cookie by which a client comes back to the same server. All load balancers understand each other's cookies. Mode http only. See [sticky sessions](guides/sticky-sessions.md).",
				at:  func(s *Service) value { return text{&s.Policy.Sticky.Cookie, "name", orEmpty(name)} },
			},
			onlyHTTP: true,
			backend:  stickyCookieLines,
		},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.key", derived: "made from the backend's name",
			doc: "HAProxy `dynamic-cookie-key`, the same on all load balancers. With a key of your own, clients cannot compute a server's address from a cookie's value.",
			at:  func(s *Service) value { return secret{&s.Policy.Sticky.Key, orEmpty(word)} },
		}},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.secure", def: "false",
			doc: "Mark the cookie `secure`: browsers send it by HTTPS only.",
			at:  func(s *Service) value { return yesNo{&s.Policy.Sticky.Secure} },
		}},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.max_idle", def: "0s",
			doc: "HAProxy `maxidle`: time without a request after which a client's cookie is ignored. 0s is no limit.",
			at:  func(s *Service) value { return wholeSeconds(&s.Policy.Sticky.MaxIdle) },
		}},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.max_life", def: "0s",
			doc: "HAProxy `maxlife`: age at which a client's cookie is ignored. 0s is no limit.",
			at:  func(s *Service) value { return wholeSeconds(&s.Policy.Sticky.MaxLife) },
		}},
		{
			setting: setting[Service]{
				key: "sticky.source", def: "false",
				doc: "A client's address comes back to the same server, on all load balancers. Needs `haproxy.peers.address`. See [sticky sessions](guides/sticky-sessions.md).",
				at:  func(s *Service) value { return yesNo{&s.Policy.Sticky.Source} },
			},
			backend: stickySourceLines,
			apart:   true,
		},
		{needs: "sticky.source", setting: setting[Service]{
			key: "sticky.clients", def: "100000",
			doc: "Addresses that are remembered at a time, the newest.",
			at:  func(s *Service) value { return number{&s.Policy.Sticky.Clients, 1, 10_000_000} },
		}},
		{needs: "sticky.source", setting: setting[Service]{
			key: "sticky.expire", def: "30m",
			doc: "Time without a request after which an address is forgotten.",
			at:  func(s *Service) value { return span{&s.Policy.Sticky.Expire, time.Second, haproxyMax} },
		}},
	}
}

// PeersName is the section of the load balancers that exchange stick tables.
const PeersName = "pointsman"

// stickySourceLines keep addresses of servers, as names of slots differ between load
// balancers.
func stickySourceLines(s *Service) []string {
	k := s.Policy.Sticky
	if !k.Source {
		return nil
	}
	return []string{fmt.Sprintf("stick-table type ipv6 size %d expire %s srvkey addr peers %s", k.Clients, ms(k.Expire), PeersName), "stick on src"}
}

func stickyCookieLines(s *Service) []string {
	c := s.Policy.Sticky
	if c.Cookie == "" {
		return nil
	}
	key := c.Key.Reveal()
	if key == "" {
		key = "pointsman." + s.Backend
	}
	line := "cookie " + c.Cookie + " insert indirect nocache httponly" + unless(!c.Secure, " secure") +
		unless(c.MaxIdle == 0, " maxidle "+ms(c.MaxIdle)) + unless(c.MaxLife == 0, " maxlife "+ms(c.MaxLife)) + " dynamic"
	return []string{line, "dynamic-cookie-key " + key}
}

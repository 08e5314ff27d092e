package config

import (
	"errors"
	"time"
)

// CheckType is the protocol of a health check.
type CheckType string

// The protocols.
const (
	CheckHTTP     CheckType = "http"
	CheckTCP      CheckType = "tcp"
	CheckRedis    CheckType = "redis"
	CheckPostgres CheckType = "pgsql"
	CheckMySQL    CheckType = "mysql"
)

// Check is HAProxy's own health check of a service's servers. Its times are
// whole milliseconds.
type Check struct {
	Enabled bool
	Type    CheckType
	User    string // "" is none
	Path    string // "" checks that a connection is accepted
	Host    string // the Host header; "" sends the backend's name, since HTTP/1.1 needs one

	Inter     time.Duration // between checks of a server that is up
	FastInter time.Duration // while it is changing
	DownInter time.Duration // while it is down
	Timeout   time.Duration
	Rise      int
	Fall      int
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

func policyChecks() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "check.type", derived: "`http` with a `check.path`, else `tcp`",
				doc: "Protocol of HAProxy's health check: a request (`http`), a connection (`tcp`), PING (`redis`), or the first messages of a login (`pgsql`, `mysql`). TLS and the PROXY protocol of the servers are used for it, too.",
				at:  func(s *Service) value { return checkType{&s.Check.Type} },
			},
			backend: protocolCheck,
		},
		{setting: setting[Service]{
			key: "check.user", derived: "none",
			doc: "User name of the check of `pgsql`, which needs one, or `mysql`. HAProxy sends no password: the check passes when the server answers.",
			at:  func(s *Service) value { return text{&s.Check.User, "word", orEmpty(word)} },
		}},
	}
}

func protocolCheck(s *Service) []string {
	if !s.Check.Enabled {
		return nil
	}
	switch user := unless(s.Check.User == "", " user "+s.Check.User); s.Check.Type {
	case CheckRedis:
		return []string{"option redis-check"}
	case CheckPostgres:
		return []string{"option pgsql-check" + user}
	case CheckMySQL:
		return []string{"option mysql-check" + user}
	case CheckHTTP, CheckTCP: // of the template
	}
	return nil
}

// checkType is the protocol of a health check.
type checkType struct{ p *CheckType }

func (c checkType) value() value {
	return oneOf(c.p, CheckHTTP, CheckTCP, CheckRedis, CheckPostgres, CheckMySQL)
}

func (c checkType) set(s string) error {
	if s == "grpc" {
		return errors.New("is not supported: gRPC gives its status in trailers, which HAProxy's checks do not read; use tcp, or http and the port of an HTTP health endpoint by server_options: port N")
	}
	return c.value().set(s)
}
func (c checkType) plain() any       { return string(*c.p) }
func (c checkType) target() any      { return c.p }
func (c checkType) describe() string { return c.value().describe() }

package haproxytest

import (
	"net/netip"
	"time"
)

// FakeServer is one server of a Fake's worker.
type FakeServer struct {
	Name         string
	Addr         netip.AddrPort
	Maint, Drain bool
	Disabled     bool // in the file: CMAINT
	Up           bool
	Stopping     bool // its health is "stopping"
	Check        bool // a check is configured
	CheckOff     bool // … and switched off
	Agent        bool // an agent check is configured
	AgentOff     bool // … and switched off
	AgentPort    int
	Weight       int
	MaxConn      int
	Backup       bool
	Sessions     int // scur
	Queued       int // qcur
	Attached     int // idle connections that `del server` stumbles over

	id      int
	config  int // the weight that percentages are of
	changed time.Time
	pending netip.AddrPort // an address that was answered for and is not set yet
}

// FakeBackend is one backend of a Fake's worker.
type FakeBackend struct {
	Name    string
	Static  bool // its balance algorithm takes no servers at runtime
	Servers []*FakeServer
}

// FakeWorker is one process of a Fake.
type FakeWorker struct {
	PID      int
	Marker   string // the value of POINTSMAN_MARK; "" is unset
	Backends []*FakeBackend

	started time.Time
	reloads int
}

func (w *FakeWorker) backend(name string) *FakeBackend {
	for _, b := range w.Backends {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// backendID is the number of a backend; a real one's depends on the file.
func (w *FakeWorker) backendID(b *FakeBackend) int {
	for i, known := range w.Backends {
		if known == b {
			return i + 3
		}
	}
	return 0
}

func (b *FakeBackend) server(name string) *FakeServer {
	for _, s := range b.Servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// add gives the server the lowest free number, as HAProxy does.
func (b *FakeBackend) add(s *FakeServer, now time.Time) {
	taken := map[int]bool{}
	for _, known := range b.Servers {
		taken[known.id] = true
	}
	s.id = 1
	for taken[s.id] {
		s.id++
	}
	s.changed, s.config = now, s.Weight
	b.Servers = append(b.Servers, s)
}

// number gives every server its number, in the file's order.
func (w *FakeWorker) number(now time.Time) {
	w.started = now
	for _, b := range w.Backends {
		servers := b.Servers
		b.Servers = nil
		for _, s := range servers {
			b.add(s, now)
		}
	}
}

// settle sets the addresses that were answered for.
func (w *FakeWorker) settle() {
	for _, b := range w.Backends {
		for _, s := range b.Servers {
			if s.pending.IsValid() {
				s.Addr, s.pending = s.pending, netip.AddrPort{}
			}
		}
	}
}

// admin returns srv_admin_state.
func (s *FakeServer) admin() int {
	bits := 0
	if s.Maint {
		bits |= 1
	}
	if s.Disabled {
		bits |= 4
	}
	if s.Drain {
		bits |= 8
	}
	return bits
}

// op returns srv_op_state.
func (s *FakeServer) op() int {
	switch {
	case s.Maint || !s.Up:
		return 0
	case s.Stopping:
		return 3
	}
	return 2
}

// agent returns srv_agent_state.
func (s *FakeServer) agent() int {
	switch {
	case !s.Agent:
		return 0
	case s.AgentOff:
		return 16 | 2
	}
	return 16 | 2 | 4
}

// check returns srv_check_state.
func (s *FakeServer) check() int {
	if !s.Check {
		return 0
	}
	bits := 2
	if !s.CheckOff {
		bits |= 4
	}
	if s.Maint {
		bits |= 8
	}
	return bits
}

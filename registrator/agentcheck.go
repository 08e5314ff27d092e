package registrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// What HAProxy's agent check hears (configuration manual 5.2, "agent-check"). Both
// say something of health only. `drain` and `ready` would set the administrative
// state, which is the sidecar's and the operator's: a later `ready` would let in
// what one of them has taken out. A server that is stopped gets no request, also none
// of a client that sticks to it, and finishes those that it has.
const (
	agentStays  = "up\n"
	agentLeaves = "stopped #leaving\n"
)

// agentCheck tells the load balancers by a way of its own that the program leaves:
// HAProxy asks it directly, and needs neither a sidecar nor Consul.
type agentCheck struct {
	address string // to listen at; "" is none

	mu     sync.Mutex
	on     net.Listener // nil before it listens
	closed bool
	// leaving: all hear that the program leaves, but those of a sidecar that answers.
	// left: these, too.
	leaving, left bool
	sidecars      map[string]heard // by their key
}

// heard is whether a sidecar answers, and the address that its HAProxy asks from too.
type heard struct {
	from    netip.Addr // not valid where it is registered by a host's name
	answers bool
}

func newAgentCheck(c Config) *agentCheck {
	if c.AgentPort == 0 {
		return &agentCheck{}
	}
	return &agentCheck{address: net.JoinHostPort(c.Address, strconv.Itoa(c.AgentPort))}
}

// listen begins to answer, once.
func (a *agentCheck) listen(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.address == "" || a.on != nil || a.closed {
		return nil
	}
	on, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.address)
	if errors.Is(err, syscall.EADDRNOTAVAIL) { // it is registered with an address that another translates
		_, port, _ := net.SplitHostPort(a.address)
		on, err = (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+port)
	}
	if err != nil {
		return fmt.Errorf("agent port: %w", err)
	}
	a.on = on
	go a.serve(on)
	return nil
}

// serve answers each connection with a few bytes and nothing else. The kernel
// takes them without waiting.
func (a *agentCheck) serve(on net.Listener) {
	for {
		c, err := on.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors, say
			time.Sleep(minRetry)
			continue
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(a.says(addressIn(c.RemoteAddr().String()))))
		_ = c.Close()
	}
}

// says returns what HAProxy at an address hears. Where several sidecars are at one, each
// must answer.
func (a *agentCheck) says(from netip.Addr) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.left:
		return agentLeaves
	case !a.leaving:
		return agentStays
	}
	says := agentLeaves
	for _, s := range a.sidecars {
		switch {
		case s.from != from || !from.IsValid():
		case !s.answers:
			return agentLeaves
		default:
			says = agentStays
		}
	}
	return says
}

// leave has it say to all from now on that the program leaves.
func (a *agentCheck) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = true
}

// leaveUnproven has it say so but to those whose sidecar answers.
func (a *agentCheck) leaveUnproven() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaving = true
}

// hears takes whether a sidecar answers. One that does not cannot tell its HAProxy that
// the program leaves; the others decide on their own when theirs stops.
func (a *agentCheck) hears(s sidecar, answers bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sidecars == nil {
		a.sidecars = make(map[string]heard)
	}
	a.sidecars[s.key] = heard{from: addressIn(s.at), answers: answers}
	a.leaving = a.leaving || !answers
}

// addressIn returns the address in a host:port, if there is one.
func addressIn(at string) netip.Addr {
	host, _, _ := net.SplitHostPort(at)
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap().WithZone("")
}

// leaveUnless does so soon, unless what is tried within a wait succeeds before: then
// done is called. While all is well the sidecars decide when the load balancers stop,
// not before a replacement is up.
func (a *agentCheck) leaveUnless(wait time.Duration) (done func()) {
	t := time.AfterFunc(soon(wait), a.leaveUnproven)
	return func() { t.Stop() }
}

// soon is the part of a wait after which what does not answer may not be there. HAProxy
// needs the rest, to ask and to finish the requests under way.
func soon(wait time.Duration) time.Duration { return wait / 6 }

func (a *agentCheck) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed = true; a.on != nil {
		_ = a.on.Close()
	}
}

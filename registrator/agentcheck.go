package registrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
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
	leaving atomic.Bool

	mu     sync.Mutex
	on     net.Listener // nil before it listens
	closed bool
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
		_, _ = c.Write([]byte(a.says()))
		_ = c.Close()
	}
}

func (a *agentCheck) says() string {
	if a.leaving.Load() {
		return agentLeaves
	}
	return agentStays
}

// leave has it say from now on that the program leaves.
func (a *agentCheck) leave() { a.leaving.Store(true) }

// leaveUnless does so soon, unless what is tried within a wait succeeds before: then
// done is called. While all is well the sidecars decide when the load balancers stop,
// not before a replacement is up.
func (a *agentCheck) leaveUnless(wait time.Duration) (done func()) {
	t := time.AfterFunc(soon(wait), a.leave)
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

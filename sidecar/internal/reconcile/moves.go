package reconcile

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// moves has the addresses that were sent and that HAProxy may be about to change to: since
// 2.9 it answers before it has done that, and may answer that nothing changes while another
// change is under way (docs/haproxy-facts.md, facts 1 and 2). What is planned for a backend
// before the addresses show is for servers that are about to have others.
type moves struct {
	sent map[movedServer]move
	pid  int // of the HAProxy that they were sent to
}

type movedServer struct{ backend, server string }

type move struct {
	to    netip.AddrPort
	looks int // how often it was waited for
}

const (
	// moveWait is how long an address is waited for at first, moveLooks how often, each
	// time twice as long.
	moveWait  = 2 * time.Millisecond
	moveLooks = 5
)

// note remembers the address that a step has sent, whatever came of it: HAProxy may have
// taken it though the answer was lost.
func (m *moves) note(s plan.Step, pid int) {
	if s.Kind != plan.SetAddr {
		return
	}
	if m.sent == nil || m.pid != pid {
		m.sent, m.pid = map[movedServer]move{}, pid
	}
	m.sent[movedServer{s.Backend, s.Server}] = move{to: s.Addr}
}

// await returns the backends, of those that are read, of which an address does not show, and
// how long to wait for it. After moveLooks looks it forgets an address: that never came to
// be, or is another program's by now.
func (m *moves) await(o plan.Observed, skipped map[string]bool) (backends map[string]bool, wait time.Duration) {
	if len(m.sent) == 0 {
		return nil, 0
	}
	backends = map[string]bool{}
	for at, move := range m.sent {
		if skipped[at.backend] {
			continue
		}
		servers := o.Backends[at.backend].Servers
		i := slices.IndexFunc(servers, func(s plan.Server) bool { return s.Name == at.server })
		if move.looks >= moveLooks || i < 0 || m.pid != o.PID || servers[i].Addr == move.to {
			delete(m.sent, at)
			continue
		}
		backends[at.backend], wait = true, max(wait, moveWait<<move.looks)
	}
	return backends, wait
}

// waited takes that the addresses of these backends were waited for once more.
func (m *moves) waited(backends map[string]bool) {
	for at, move := range m.sent {
		if backends[at.backend] {
			move.looks++
			m.sent[at] = move
		}
	}
}

// pause waits, or less if the context ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

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
	sent map[movedServer]netip.AddrPort
	pid  int // of the HAProxy that they were sent to
}

type movedServer struct{ backend, server string }

const (
	// moveWait is how long an address is waited for at first, moveLooks how often in one
	// pass, each time twice as long.
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
		m.sent, m.pid = map[movedServer]netip.AddrPort{}, pid
	}
	m.sent[movedServer{s.Backend, s.Server}] = s.Addr
}

// await returns the backends, of those that are read, of which an address does not show.
// After moveLooks looks it forgets them: the address never came to be, or is another
// program's by now.
func (m *moves) await(o plan.Observed, skipped map[string]bool, looks int) map[string]bool {
	if len(m.sent) == 0 {
		return nil
	}
	backends := map[string]bool{}
	for at, addr := range m.sent {
		if skipped[at.backend] {
			continue
		}
		servers := o.Backends[at.backend].Servers
		i := slices.IndexFunc(servers, func(s plan.Server) bool { return s.Name == at.server })
		if looks >= moveLooks || i < 0 || m.pid != o.PID || servers[i].Addr == addr {
			delete(m.sent, at)
			continue
		}
		backends[at.backend] = true
	}
	return backends
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

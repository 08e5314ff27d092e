package sim

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// What observe counts in old workers, a shutdown ends: also a session that goes
// where its server was before an operator moved it.
func TestProxy_ShutdownOfAServerMovedByHand_EndsItsOldSessions(t *testing.T) {
	p := &proxy{w: &world{began: time.Now()}, running: true}
	load := func() *worker {
		s := &server{Server: plan.Server{Name: "slot-1", Addr: addrOf(2), Admin: plan.Maint}}
		wk := &worker{backends: map[string]*backend{"api_nodes": {name: "api_nodes", servers: []*server{s}}}, names: []string{"api_nodes"}}
		s.worker = wk
		return wk
	}
	p.worker, p.old = load(), []*worker{load()}
	old := p.old[0].backends["api_nodes"].servers[0]
	old.sessions = []*session{{addr: addrOf(1), worker: p.old[0], server: old}}
	if n := p.oldSessions("api_nodes", addrOf(2)); n != 1 {
		t.Fatalf("got %d sessions, want 1", n)
	}
	if err := p.do(plan.Step{Kind: plan.Shutdown, Backend: "api_nodes", Server: "slot-1", Addr: addrOf(2)}); err != nil {
		t.Fatal(err)
	}
	if n := p.oldSessions("api_nodes", addrOf(2)); n != 0 {
		t.Errorf("got %d sessions after the shutdown, want none", n)
	}
}

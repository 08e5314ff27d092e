package reconcile_test

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// What HAProxy's check says of a server that is down is in the state at once and in the
// log after 10 s, once; also where HAProxy was reloaded or the settings are new.
func TestServerDown_CheckFails_StateAndLogSayWhy(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.settings.Services[0].Path = "/healthz"
		b.settings.Reconcile = time.Second
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		of := func() (down []reconcile.InstanceState) {
			for _, i := range b.agent.State().Services[0].Instances {
				if i.Phase != reconcile.PhaseUp {
					down = append(down, i)
				}
			}
			return down
		}
		b.haproxy.with(func() {
			b.haproxy.nodes[addr(2)] = false
			b.haproxy.check = plan.Check{Status: "L7STS", Code: 404, Words: "Not Found"}
		})
		b.eventually("one server down", 3*time.Second, func() bool { return len(of()) == 1 })
		want := "L7STS 404: GET /healthz → 404 Not Found"
		for range 8 {
			if got := of(); len(got) != 1 || got[0].Phase != reconcile.PhaseDown || got[0].Check != want || got[0].Reason != "HAProxy's check fails: "+want {
				t.Fatalf("got %+v, want one in phase down with the check %q", got, want)
			}
			b.agent.Reconfigure(b.settings)
			b.passes(time.Second)
		}
		if n := b.log.count("server down"); n != 0 {
			t.Errorf("got %d lines before 10 s:\n%s", n, b.log)
		}
		b.passes(20 * time.Second)
		if n := b.log.count("[WARN]", "server down", "backend=api_nodes", "check=L7STS", "code=404", "url=/healthz", `words="Not Found"`); n != 1 {
			t.Errorf("got %d lines after 10 s, want 1:\n%s", n, b.log)
		}
		b.haproxy.with(func() { delete(b.haproxy.nodes, addr(2)) })
		b.passes(5 * time.Second)
		if n := b.log.count("server up", "backend=api_nodes"); n != 1 || len(of()) != 0 {
			t.Errorf("got %d lines once it is up, and %+v down; want 1 and none:\n%s", n, of(), b.log)
		}
	})
}

package reconcile_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestOnlyTheBackendOfTheServiceThatChangedIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		b.start()
		b.passes(time.Second)
		before := len(b.haproxy.observations())
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Second)
		for _, read := range b.haproxy.observations()[before:] {
			if !slices.Equal(read, []string{"api_nodes"}) {
				t.Errorf("read %q, want api_nodes only", read)
			}
		}
		// All of it is, from time to time.
		before = len(b.haproxy.observations())
		b.passes(b.settings.Reconcile)
		if got, want := b.haproxy.observations()[before:], [][]string{{"api_nodes", "web_nodes"}}; cmp.Diff(want, got) != "" {
			t.Errorf("read %q, want %q", got, want)
		}
	})
}

// Another process may have loaded an older file: one look at it is enough to
// compare all of it, and the differences are no drift.
func TestAnHAProxyThatWasRestartedIsComparedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		old, _ := b.file.Read()
		b.start()
		b.passes(time.Second)
		b.catalog.says("web", instance("web-1", 9, func(i *catalog.Instance) { i.Weight = 5 }), instance("web-2", 10))
		b.passes(time.Second)
		b.haproxy.startWith(old)
		b.catalog.says("api", many(2)...)
		b.passes(time.Second)
		if got := b.haproxy.shows("web_nodes"); len(got) != 2 {
			t.Errorf("got %q a second later, want web-2 again", got)
		}
		b.wantTold("step web weight", "step web weight web-1: reweighted: ok", "step web weight web-1: reweighted: ok")
	})
}

// A server that is down for hours is no reason to read a backend of thousands
// twenty times a second.
func TestWhatTakesLongIsLookedAtLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2))
		b.haproxy.with(func() { b.haproxy.nodes[addr(2)] = false })
		b.passes(b.settings.Reconcile) // it is seen
		b.passes(10 * time.Minute)
		before := len(b.haproxy.observations())
		b.passes(10 * time.Minute)
		if n := len(b.haproxy.observations()) - before; n > 600+3*20 { // a comparison looks at the file as well
			t.Errorf("got %d reads in ten minutes, want one in a second at most, and three for each comparison", n)
		}
		// One that has just begun to come up is looked at often.
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2), instance("api-3", 3))
		before = len(b.haproxy.observations())
		b.passes(checkTime + 60*time.Millisecond)
		if n := len(b.haproxy.observations()) - before; n < 3 {
			t.Errorf("got %d reads while a server comes up, want some", n)
		}
	})
}

func TestSessionsThatComeAndGoAreNoReasonToLookMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		b.haproxy.with(func() {
			s := b.haproxy.server("api_nodes", "api-2")
			s.Admin, s.Sessions = plan.Maint, 50
		})
		b.catalog.says("api", instance("api-1", 1)) // it may be deleted once they have ended
		b.passes(time.Minute)
		before := len(b.haproxy.observations())
		for n := range 120 {
			b.passes(500 * time.Millisecond)
			b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Sessions = 1 + n%50 })
		}
		if n := len(b.haproxy.observations()) - before; n > 70 {
			t.Errorf("got %d reads in a minute, want one in a second at most", n)
		}
	})
}

// HAProxy alone knows when the last question of a slot's agent check has its answer.
func TestPace_SlotIsFreeOnceItsAgentCheckHasEnded_InstanceTakesItSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		setAgents := func(a plan.Agent) {
			b.haproxy.with(func() {
				for _, name := range []string{"slot-2", "slot-3", "slot-4"} {
					b.haproxy.server("api_nodes", name).Agent = a
				}
			})
		}
		setAgents(plan.AgentBusy)
		b.passes(b.settings.Reconcile) // it is seen
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(5 * time.Second)
		setAgents(plan.AgentOff)
		b.eventually("it has the slot", time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == 2 })
	})
}

package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func (b *bench) instanceState(id string) reconcile.InstanceState {
	b.t.Helper()
	for _, i := range b.agent.State().Services[0].Instances {
		if i.ID == id {
			return i
		}
	}
	b.t.Fatalf("no instance %s", id)
	return reconcile.InstanceState{}
}

func (b *bench) wantSince(what string, want time.Time) {
	b.t.Helper()
	if off := b.instanceState("a").Since.Sub(want).Abs(); off > 2*time.Second {
		b.t.Errorf("%s: since %s, want %s", what, b.instanceState("a").Since, want)
	}
}

func TestState_Since_WhenHAProxyStateBegan(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("a", 1), instance("b", 2))
		up := time.Now()
		server := b.instanceState("a").Server
		b.passes(10 * time.Minute)
		b.wantSince("up", up)

		b.catalog.says("api", instance("a", 1), instance("b", 2), instance("c", 3))
		b.haproxy.with(func() { b.haproxy.server("api_nodes", server).Sessions = 1 })
		b.passes(time.Minute)
		b.wantSince("another one came", up)

		b.passes(700 * time.Millisecond)
		b.haproxy.with(func() { b.haproxy.server("api_nodes", server).changed = time.Now() })
		again := time.Now()
		b.passes(2 * time.Minute)
		b.wantSince("it was down and is up again", again)

		b.catalog.says("api", instance("a", 1, leaving), instance("b", 2), instance("c", 3))
		drain := time.Now()
		b.passes(time.Second)
		was := b.instanceState("a").Since
		for range 80 { // it is read at all fractions of a second
			b.passes(100 * time.Millisecond)
			if is := b.instanceState("a").Since; !is.Equal(was) {
				t.Fatalf("it drains since %s, then since %s", was, is)
			}
		}
		if i := b.instanceState("a"); i.Phase != reconcile.PhaseDraining {
			t.Fatalf("got %+v, want it draining", i)
		}
		b.wantSince("it drains", drain)
	})
}

// A new worker counts from its own start.
func TestState_SinceAfterReload_GoesOnWhereTheStateIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		up := time.Now()
		b.passes(10 * time.Minute)
		pid := b.agent.State().HAProxy.PID
		b.haproxy.start() // as a reload by hand does
		b.passes(time.Minute)
		if b.agent.State().HAProxy.PID == pid {
			t.Fatal("no other worker was seen")
		}
		b.wantSince("up in both workers", up)
	})
}

func TestState_ConsulCheck_NewestOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		b.catalog.says("api", instance("a", 1, func(i *catalog.Instance) { i.Health = catalog.Warning }), instance("b", 2))
		says := func(text string) { // no change that wakes the loop
			b.catalog.mu.Lock()
			svc := b.catalog.snap.Service(backendOf("api"))
			svc.Outputs = []catalog.CheckOutput{{ID: "a", Node: "node", Text: text}}
			b.catalog.snap = b.catalog.snap.With(svc)
			b.catalog.mu.Unlock()
			b.passes(b.settings.Reconcile + time.Second)
			if i := b.instanceState("a"); i.ConsulCheck != text || i.Health != "warning" {
				t.Errorf("got %s, %q, want warning, %q", i.Health, i.ConsulCheck, text)
			}
		}
		says("http: 503")
		says("http: connection refused")
		if i := b.instanceState("b"); i.ConsulCheck != "" {
			t.Errorf("one that passes has %q", i.ConsulCheck)
		}
	})
}

func TestState_AppliedAfter_TimeFromConsulsAnswerOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		b.passes(time.Second)
		if s := b.agent.State().Services[0]; s.AppliedAfter != 0 || s.Applied.IsZero() {
			t.Errorf("the first answer: %v ms, applied %s, want none", s.AppliedAfter, s.Applied)
		}
		b.haproxy.with(func() { b.haproxy.observeTakes = 20 * time.Millisecond })
		b.catalog.says("api", instance("a", 1), instance("b", 2, leaving))
		b.passes(5 * time.Second)
		if s := b.agent.State().Services[0]; s.AppliedAfter < 20 || s.AppliedAfter > 1000 {
			t.Errorf("a drain: %v ms, want that of a few looks at HAProxy", s.AppliedAfter)
		}
	})
}

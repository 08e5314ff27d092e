package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
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

// That holds for as long as the state does, whatever has the service's state made again.
func TestState_SinceAfterReload_StaysWhenTheServiceChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		up := time.Now()
		server := b.instanceState("a").Server
		b.passes(10 * time.Minute)
		b.haproxy.start()
		b.passes(time.Minute)
		b.catalog.says("api", instance("a", 1), instance("b", 2), instance("c", 3))
		b.passes(time.Minute)
		b.wantSince("another one came", up)
		b.haproxy.start()
		b.passes(time.Minute)
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.passes(time.Minute)
		b.wantSince("after two reloads that one left", up)

		b.haproxy.with(func() { b.haproxy.server("api_nodes", server).changed = time.Now() })
		again := time.Now()
		b.passes(time.Minute)
		b.wantSince("it was down and is up again in the new worker", again)
	})
}

// A HAProxy that was stopped has had no server in any state meanwhile.
func TestState_SinceAfterStopOfHAProxy_ItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		b.passes(10 * time.Minute)
		b.haproxy.stop()
		b.passes(time.Minute)
		b.haproxy.start()
		start := time.Now()
		b.passes(time.Minute)
		b.wantSince("HAProxy was started", start)
	})
}

// A server that was down and is up again between two readings has counted for longer than at
// the first reading, if that was just after an earlier change.
func TestState_SinceAfterChangesThatWereNotSeen_TheLast(t *testing.T) {
	for name, wait := range map[string]time.Duration{"each in the middle": 15 * time.Second, "each soon after a reading": 4 * time.Second} {
		t.Run(name, inTime(func(t *testing.T) {
			b := serving(t, true, instance("a", 1), instance("b", 2))
			server, last := b.instanceState("a").Server, time.Time{}
			b.passes(10 * time.Minute)
			change := func() {
				b.haproxy.with(func() { b.haproxy.server("api_nodes", server).changed = time.Now() })
				last = time.Now()
			}
			change()
			seen := len(b.haproxy.observations())
			b.eventually("a comparison", time.Minute, func() bool { return len(b.haproxy.observations()) > seen })
			for range 3 {
				b.passes(wait)
				change()
				b.passes(b.settings.Reconcile - wait)
			}
			b.passes(b.settings.Reconcile)
			b.wantSince("it was down and is up again", last)
		}))
	}
}

// A change just before each reading: none of them is by more than the rounding later than the
// one before it, and all of them are.
func TestState_SinceAfterChangesWithinTheRounding_IsNotLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		b.settings.Reconcile = 1500 * time.Millisecond
		b.agent.Reconfigure(b.settings)
		server := b.instanceState("a").Server
		b.passes(time.Minute)
		for range 40 {
			b.haproxy.with(func() { b.haproxy.server("api_nodes", server).changed = time.Now() })
			b.passes(b.settings.Reconcile)
		}
		if off := time.Since(b.instanceState("a").Since); off > 5*time.Second {
			t.Errorf("since %s ago, want that of one of the last changes", off)
		}
	})
}

// New settings are no other worker.
func TestState_SinceWithNewSettings_ChangeAtThatMomentIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		b.passes(10 * time.Minute)
		server := b.instanceState("a").Server
		b.haproxy.with(func() { b.haproxy.server("api_nodes", server).changed = time.Now() })
		again := time.Now()
		b.settings.ReloadInterval += time.Second
		b.agent.Reconfigure(b.settings)
		b.passes(time.Second)
		b.wantSince("right after the new settings", again)
		b.passes(5 * time.Minute)
		b.wantSince("later", again)
	})
}

// A service's state may be made again from what was read a while ago.
func TestState_SinceFromAnOldReading_Stays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.catalog.says("web", instance("w", 9))
		b.adoptable()
		b.start()
		up := time.Now()
		b.passes(time.Second + 9*b.settings.Reconcile)
		b.passes(b.settings.Reconcile * 2 / 3)
		b.catalog.mu.Lock()
		svc := b.catalog.snap.Service(backendOf("api"))
		svc.Outputs = []catalog.CheckOutput{{ID: "a", Node: "node", Text: "http: 503"}} // no news that has it read
		b.catalog.snap = b.catalog.snap.With(svc)
		b.catalog.mu.Unlock()
		b.catalog.says("web", instance("w", 9), instance("x", 10))
		b.passes(time.Second)
		if i := b.instanceState("a"); i.ConsulCheck != "http: 503" {
			t.Fatalf("got %+v, want Consul's new output", i)
		}
		b.wantSince("made again", up)
	})
}

// Where nothing changes, nothing is made again: on a large fleet that costs at each comparison.
func TestState_NothingChanges_InstancesAreNotMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.haproxy.with(func() {
			b.haproxy.compares = func(o plan.Observed) plan.Observed { // takes as long after it was read
				b.haproxy.mu.Lock()
				takes := b.haproxy.observeTakes
				b.haproxy.mu.Unlock()
				time.Sleep(takes)
				return o
			}
		})
		b.settings.Reconcile = 700 * time.Millisecond
		b.agent.Reconfigure(b.settings)
		b.passes(time.Minute) // they are "starting" no more
		was := &b.agent.State().Services[0].Instances[0]
		for _, takes := range []time.Duration{0, 3 * time.Second, 50 * time.Millisecond, 5 * time.Second, 0} {
			b.haproxy.with(func() { b.haproxy.observeTakes = takes })
			read := len(b.haproxy.observations())
			b.passes(10 * time.Minute)
			if is := &b.agent.State().Services[0].Instances[0]; is != was {
				t.Errorf("readings of %s: the instances were made again, since %s and before since %s", takes, is.Since, was.Since)
				was = is
			}
			if n := len(b.haproxy.observations()) - read; n < 10 {
				t.Errorf("readings of %s: only %d", takes, n)
			}
		}
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

package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// drained reports the answer to a node that leaves now.
func (b *bench) drained(id string) bool {
	d, _ := b.agent.State().Drain("api", id)
	return d.Drained
}

func TestDrained_FileWouldBringItBack_IsNotReported(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1))
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(5 * time.Second) // the first file never waits
		b.settings.FileDelay = 10 * time.Second
		b.agent.Reconfigure(b.settings)
		b.passes(time.Second)
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving))
		b.passes(5 * time.Second)
		if servers, _ := b.file.shows("api_nodes"); len(servers) != 2 || b.drained("api-2") {
			t.Fatalf("the file has %q, drained %v: want both in it, and neither drained", servers, b.drained("api-2"))
		}
		b.passes(10 * time.Second)
		if servers, _ := b.file.shows("api_nodes"); len(servers) != 1 || !b.drained("api-2") {
			t.Errorf("the file has %q, drained %v: want one in it, and the other drained", servers, b.drained("api-2"))
		}
	})
}

// An operator reloads HAProxy after it was last read, and before the file that
// knows of the drain is in place.
func TestAReloadJustBeforeTheFileIsWrittenIsSeenBeforeAnybodyIsCalledDrained(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1), instance("api-2", 2))
		before, _ := b.file.Read()
		b.file.with(func() {
			b.file.reject = func([]byte) error { // its last chance
				b.haproxy.startWith(before)
				b.file.reject = nil
				return nil
			}
		})
		b.recorder.onState = func(s *reconcile.State) {
			for _, line := range b.haproxy.shows("api_nodes") {
				if d, _ := s.Drain("api", "api-2"); d.Drained && strings.HasSuffix(line, " 10.0.0.2:4000 ready up") {
					t.Errorf("api-2 is called drained, and HAProxy has %s", line)
				}
			}
		}
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving))
		b.passes(2 * time.Second)
		if !b.drained("api-2") {
			t.Error("api-2 is never drained")
		}
	})
}

func TestWhoMayHaveSessionsInOldWorkersOnlyIsNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2))
		before, _ := b.file.Read()
		b.haproxy.with(func() { b.haproxy.old, b.haproxy.unread = 1, errors.New("not now") })
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving), instance("api-3", 3, leaving))
		b.passes(time.Second)
		b.haproxy.startWith(before) // an operator reloads it, with a file that does not have api-3
		b.haproxy.with(func() { b.haproxy.unread = nil })
		b.passes(4 * time.Second)
		if !b.drained("api-2") {
			t.Error("api-2, whose server is out and empty, is not drained")
		}
		if b.drained("api-3") || b.drained("api-4") {
			t.Errorf("an old worker lives that may know them: api-3 drained %v, api-4 drained %v, want neither", b.drained("api-3"), b.drained("api-4"))
		}
		b.haproxy.with(func() { b.haproxy.old = 0 })
		b.passes(b.settings.Reconcile)
		if !b.drained("api-3") || !b.drained("api-4") {
			t.Errorf("no old worker is left: api-3 drained %v, api-4 drained %v, want both", b.drained("api-3"), b.drained("api-4"))
		}
	})
}

// A client that asks after the node has gone, as a deployment does, is not to wait for
// old workers that have others' sessions.
func TestWhoWasSeenEmptyInAllWorkersStaysDrained(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, many(3)...)
		b.haproxy.with(func() { b.haproxy.old = 1 })
		b.passes(b.settings.Reconcile)
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving), instance("api-3", 3))
		b.passes(2 * time.Second)
		if !b.drained("api-2") {
			t.Fatal("api-2 is out and empty, and not drained")
		}
		b.catalog.says("api", instance("api-1", 1), instance("api-3", 3))
		b.passes(time.Minute)
		if !b.drained("api-2") {
			t.Error("api-2 is gone, and not drained any more")
		}
		if b.drained("api-9") {
			t.Error("api-9, which was never seen, is drained while an old worker lives")
		}
		b.haproxy.start() // an operator reloads it: another worker is old now, that may have had it
		b.passes(b.settings.Reconcile)
		if b.drained("api-2") {
			t.Error("api-2 is drained by what was counted before a reload")
		}
	})
}

// A write that is due later is not waited for when it is needed no more, nor when
// a client waits.
func TestAWriteThatIsNotNeededAnyMoreHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(1)...)
		b.catalog.says("api", many(2)...)
		b.passes(5 * time.Second)
		b.settings.FileDelay = time.Minute
		b.settings.Reconcile = time.Hour
		b.agent.Reconfigure(b.settings)
		b.passes(time.Second)
		b.catalog.says("api", many(3)...)
		b.passes(5 * time.Second)
		b.catalog.says("api", many(2)...)
		b.passes(20 * time.Second) // as it was, when it was written
		if f := b.agent.State().File; f.Pending || !f.Current {
			t.Errorf("got %+v, want nothing pending", f)
		}
		b.catalog.says("api", many(4)...)
		b.passes(5 * time.Second)
		if !b.agent.State().File.Pending {
			t.Fatal("nothing is pending")
		}
		b.agent.Attend(+1)
		defer b.agent.Attend(-1)
		b.passes(time.Second)
		if b.agent.State().File.Pending {
			t.Error("a client waits, and the file is not written")
		}
	})
}

func TestOldWorkersThatCannotBeCountedMayHaveAnybody(t *testing.T) {
	s := reconcile.State{Converged: true, HAProxy: reconcile.HAProxyState{Running: true, OldWorkersUnknown: true}, Services: []reconcile.ServiceState{{Name: "api", Known: true}}}
	if d, _ := s.Drain("api", "api-1"); d.Drained {
		t.Error("drained, and the old workers could not be counted")
	}
}

func TestAFileThatFollowsNoPlanIsNotCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		if !b.agent.State().File.Current {
			t.Fatal("the file is not current, and nothing has changed")
		}
		b.haproxy.with(func() {
			b.haproxy.old = b.settings.MaxOldWorkers // so that no reload comes
			b.haproxy.marker = plan.Marker{Template: "t0", Services: "s0", Settings: "g0"}
			b.haproxy.pid++
		})
		b.passes(b.settings.Reconcile)
		if b.agent.State().File.Current {
			t.Error("HAProxy runs what the sidecar can't render, and the file is said to be current")
		}
	})
}

func TestTheFileFollowsAnHAProxyThatStartedFromItBeforeNewSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.catalog.says("api", instance("api-1", 1))
		b.start() // HAProxy is not there yet: the file is written for it
		b.passes(2 * time.Second)
		wanted := b.settings
		wanted.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		wanted.MaxOldWorkers = 1
		b.haproxy.with(func() { b.haproxy.old = 1 }) // so that no reload comes
		b.haproxy.start()
		b.agent.Reconfigure(wanted)
		b.passes(time.Second)
		b.catalog.says("api", many(2)...)
		b.passes(5 * time.Second)
		if servers, template := b.file.shows("api_nodes"); len(servers) != 2 || template == "t2" || !b.agent.State().File.Current {
			t.Errorf("the file has %q by the template %s, current %v; want both servers, by the settings that HAProxy runs", servers, template, b.agent.State().File.Current)
		}
	})
}

// Consul has lost its data, and HAProxy has ended: what was lost at once stays in
// the file, and comes back with it.
func TestWhomTheFileOfAnHAProxyThatHasEndedKeepsIsNotDrained(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, many(3)...)
		b.haproxy.stop()
		b.catalog.says("api")
		b.passes(time.Minute)
		if servers, _ := b.file.shows("api_nodes"); len(servers) != 3 || b.drained("api-1") {
			t.Errorf("the file has %q, api-1 drained %v: want all three, and not drained", servers, b.drained("api-1"))
		}
		if !b.drained("api-9") && dynamic { // a slot may be anybody's
			t.Error("api-9, which is unknown, is not drained")
		}
	})
}

// An instance is registered where another one still has sessions, and HAProxy
// has a server of its name elsewhere.
func TestWhoIsRegisteredWhereAnotherHasSessionsIsNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2), instance("api-3", 3))
		b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Sessions = 1 })
		b.catalog.says("api", instance("api-1", 2, leaving), instance("api-2", 2, leaving), instance("api-3", 3))
		b.passes(5 * time.Second)
		if b.drained("api-1") {
			t.Error("api-1 is drained, and there is a session at its address")
		}
		b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Sessions = 0 })
		b.passes(5 * time.Second)
		if !b.drained("api-1") {
			t.Errorf("api-1 is never drained: %+v", b.agent.State().Services[0].Instances)
		}
	})
}

// An instance leaves where no server is any more: its own is at its old address,
// and the one that served its address has moved away. Nothing counts the sessions
// that are left there in the workers of before a reload.
func TestDrain_NoServerAtTheAddress_WaitsForOldWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2), instance("api-3", 3))
		b.haproxy.with(func() { b.haproxy.old = 1 })
		b.passes(b.settings.Reconcile)
		b.catalog.says("api", instance("api-1", 2, leaving), instance("api-2", 4), instance("api-3", 3))
		b.passes(5 * time.Second)
		if b.drained("api-1") {
			t.Error("api-1 is drained, and an old worker may have sessions at its address")
		}
		b.haproxy.with(func() { b.haproxy.old = 0 })
		b.passes(b.settings.Reconcile)
		if !b.drained("api-1") {
			t.Errorf("no old worker is left, and api-1 is not drained: %+v", b.agent.State().Services[0].Instances)
		}
	})
}

// The end of the sidecar cuts short the write that would keep the leaving node
// out of the file.
func TestWhatTheEndCutsShortIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2))
		b.file.with(func() {
			b.file.reject = func([]byte) error { b.cancel(); return context.Canceled }
		})
		b.recorder.onState = func(s *reconcile.State) {
			if d, _ := s.Drain("api", "api-2"); d.Drained {
				t.Error("api-2 is called drained, and the file has it")
			}
		}
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving))
		b.passes(time.Second)
		if n := b.log.count("write failed"); n != 0 {
			t.Errorf("the log tells of a write that nothing was wrong with:\n%s", b.log)
		}
	})
}

// HAProxy cannot be read for a while, and its old worker lives on. That it could not
// be asked then is no proof that there is none.
func TestDrain_HAProxyUnreadForAWhile_OldWorkersStillCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		b.haproxy.with(func() { b.haproxy.old = 1 })
		b.passes(b.settings.Reconcile)
		b.catalog.says("api", append(many(2), instance("api-3", 3, leaving))...) // it has no server here, and may have sessions there
		b.passes(time.Second)
		b.recorder.onState = func(s *reconcile.State) {
			if d, _ := s.Drain("api", "api-3"); d.Drained {
				t.Errorf("called drained while an old worker lives: %+v", s.HAProxy)
			}
		}
		b.haproxy.with(func() { b.haproxy.unread = errors.New("not now") })
		b.passes(3 * b.settings.Reconcile)
		b.haproxy.with(func() { b.haproxy.unread = nil })
		b.passes(2 * b.settings.Reconcile)
		b.recorder.onState = nil
		b.haproxy.with(func() { b.haproxy.old = 0 })
		b.passes(b.settings.Reconcile + time.Second)
		if !b.drained("api-3") {
			t.Error("no old worker is left, and api-3 is not drained")
		}
	})
}

// What the sidecar itself has put in drain is no drift when the instance comes back.
func TestDrain_InstanceComesBackWithSessions_IsNoDrift(t *testing.T) {
	for _, moves := range []bool{false, true} {
		inBothModes(t, func(t *testing.T, dynamic bool) {
			b := newBench(t, dynamic)
			b.settings.Services[0].MoveSticky = moves // a drain is maint then
			b.catalog.says("api", instance("a", 1), instance("b", 2))
			b.adoptable()
			b.start()
			b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
			b.haproxy.with(func() { b.haproxy.server("api_nodes", b.nameAt(1)).Sessions = 1 })
			b.catalog.says("api", instance("a", 1, leaving), instance("b", 2))
			b.passes(5 * time.Second)
			b.catalog.says("api", instance("a", 1), instance("b", 2))
			b.eventually("a up", 5*time.Second, func() bool { return b.phases() == "a up, b up" })
			if n := b.log.count("drift corrected"); n != 0 {
				t.Errorf("got %d lines of drift, want none:\n%s", n, b.log)
			}

			b.haproxy.with(func() { b.haproxy.server("api_nodes", b.nameAt(1)).Admin = plan.Drain })
			b.passes(time.Minute)
			if n := b.log.count("drift corrected"); n != 1 {
				t.Errorf("drained by hand: got %d lines of drift, want one:\n%s", n, b.log)
			}
		})
	}
}

// nameAt is the server at an address, whatever its name. Call it in with.
func (b *bench) nameAt(n int) string {
	for _, s := range b.haproxy.backends["api_nodes"] {
		if s.Addr == addr(n) {
			return s.Name
		}
	}
	return ""
}

package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// damping is a bench of three instances, of which the third may flap.
func damping(t *testing.T, dynamic bool) *bench {
	t.Helper()
	b := newBench(t, dynamic)
	b.settings.Damping = map[string]reconcile.Damping{"api_nodes": {Flaps: 3, Min: 10 * time.Second, Max: time.Minute, Forget: 10 * time.Minute}}
	b.catalog.says("api", many(3)...)
	b.adoptable()
	b.start()
	b.passes(time.Second)
	return b
}

// third is Consul's answer in which the third instance is so.
func (b *bench) third(change ...func(*catalog.Instance)) {
	all := many(3)
	for _, c := range change {
		c(&all[2])
	}
	b.catalog.says("api", all...)
	b.passes(time.Second)
}

func (b *bench) flap() {
	b.third(critical)
	b.third()
}

func (b *bench) wantReady(n int, when string) {
	b.t.Helper()
	if got := b.ready(); got != n {
		b.t.Errorf("%s: got %d in traffic, want %d: %q", when, got, n, b.haproxy.shows("api_nodes"))
	}
}

func TestAnInstanceThatFlapsIsKeptOutLongerEachTimeAndBounded(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := damping(t, dynamic)
		b.flap()
		b.flap()
		b.wantReady(3, "two flaps")
		for n, wait := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
			b.flap()
			b.wantReady(2, "at once")
			i := b.agent.State().Services[0].Instances[2]
			if i.Waiting != "damping" || i.Flaps != n+3 || time.Until(i.DampedUntil) > wait || time.Until(i.DampedUntil) < wait-2*time.Second {
				t.Errorf("flap %d: got %+v, want it damped for %s", n+3, i, wait)
			}
			b.passes(time.Until(i.DampedUntil) - time.Millisecond)
			b.wantReady(2, "before its time")
			b.passes(time.Second)
			b.wantReady(3, "after its time")
		}
		if n := b.log.count("instance flapping", "api-3"); n != 5 {
			t.Errorf("got %d lines that it flaps, want 5:\n%s", n, b.log)
		}
		if n := b.log.count("instance stable, suppression ended"); n != 5 {
			t.Errorf("got %d lines that it is let in, want 5:\n%s", n, b.log)
		}
	})
}

// It must stay well all the time.
func TestTheTimeOfAnInstanceThatFlapsBeginsAgainWithEachFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := damping(t, true)
		for range 20 {
			b.flap()
		}
		b.wantReady(2, "after twenty flaps in a row")
		maints := 0
		for _, s := range b.haproxy.steps() {
			if s == "maint api-3" {
				maints++
			}
		}
		if maints != 3 {
			t.Errorf("got %d steps out of traffic, want the 3 before it was damped: %q", maints, b.haproxy.steps())
		}
		if n := b.log.count("instance flapping"); n != 1 {
			t.Errorf("got %d lines, want one for all of it:\n%s", n, b.log)
		}
	})
}

func TestOneInstancesFlapsAreNoneOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := damping(t, true)
		for range 10 {
			b.flap()
		}
		b.catalog.says("api", append(many(3), instance("api-4", 4))...)
		b.passes(time.Second)
		b.wantReady(3, "a new instance comes at once")
		all := append(many(3), instance("api-4", 4))
		all[1].Health = catalog.Critical
		b.catalog.says("api", all...)
		b.passes(time.Second)
		all[1].Health = catalog.Passing
		b.catalog.says("api", all...)
		b.passes(time.Second)
		b.wantReady(3, "another that was ill once comes back at once")
	})
}

func TestFlapsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := damping(t, true)
		b.flap()
		b.flap()
		b.passes(10 * time.Minute)
		b.flap()
		b.wantReady(3, "the first two are forgotten")
	})
}

func TestWhoLeavesOrIsInMaintenanceDoesNotFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := damping(t, true)
		maintained := func(i *catalog.Instance) { i.Health = catalog.Maintenance }
		for range 6 {
			b.third(maintained)
			b.third()
			b.third(leaving)
			b.third()
		}
		b.passes(time.Second)
		b.wantReady(3, "after six times in and out of maintenance")
		if n := b.log.count("instance flapping"); n != 0 {
			t.Errorf("got %d lines, want none:\n%s", n, b.log)
		}
	})
}

// A crash loop may take the registration along.
func TestAnInstanceThatIsGoneInBetweenFlapsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := damping(t, true)
		for range 3 {
			b.third(critical)
			b.catalog.says("api", many(2)...)
			b.passes(time.Second)
			b.third()
		}
		b.wantReady(2, "after the third time")
	})
}

func TestDampingCanBeSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := damping(t, true)
		for range 10 {
			b.flap()
		}
		b.wantReady(2, "damped")
		b.settings.Damping = nil
		b.agent.Reconfigure(b.settings)
		b.passes(time.Second)
		b.wantReady(3, "switched off")
	})
}

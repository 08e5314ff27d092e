package reconcile_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Everything is compared as often as is set on a small fleet. Where it takes long,
// it is compared less often, so that it costs one percent of a processor.
func TestCompare_TakesLong_IsDoneLessOften(t *testing.T) {
	for _, tt := range []struct {
		name       string
		takes      time.Duration
		least, max int // comparisons in 10 minutes
	}{
		{"1 ms", time.Millisecond, 295, 300},
		{"100 ms", 100 * time.Millisecond, 55, 60},
		{"a minute", time.Minute, 5, 7},
	} {
		t.Run(tt.name, inTime(func(t *testing.T) {
			b := serving(t, true, many(3)...)
			b.settings.Reconcile = 2 * time.Second
			b.agent.Reconfigure(b.settings)
			b.passes(time.Minute)
			b.haproxy.with(func() { b.haproxy.observeTakes = tt.takes })
			b.passes(2 * time.Minute)
			before := len(b.haproxy.observations())
			b.passes(10 * time.Minute)
			got := 0
			for _, asked := range b.haproxy.observations()[before:] {
				if readsServices(asked) {
					got++
				}
			}
			if got < tt.least || got > tt.max {
				t.Errorf("got %d comparisons in ten minutes, want %d to %d", got, tt.least, tt.max)
			}
		}))
	}
}

// What an operator changes by hand on a small fleet is corrected within two seconds.
func TestCompare_Drift_IsCorrectedWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.settings.Reconcile = 2 * time.Second
		b.agent.Reconfigure(b.settings)
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.observeTakes = 2 * time.Millisecond })
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Admin = plan.Maint })
		b.passes(2*time.Second + 10*time.Millisecond)
		b.haproxy.with(func() {
			if got := b.haproxy.server("api_nodes", "api-2").Admin; got != plan.Ready {
				t.Errorf("after two seconds the server is in %s, want ready", got)
			}
		})
	})
}

// A large fleet takes a while to read. A change goes through meanwhile, and what the
// comparison has read of that service before is not taken for newer.
func TestCompare_UnderWay_ChangesGoThroughAndStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", many(2)...)
		b.catalog.says("web", instance("web-1", 9))
		b.settings.Reconcile = 2 * time.Second
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		old := map[string][]plan.Server{}
		b.haproxy.with(func() {
			b.haproxy.observeTakes = time.Millisecond
			b.haproxy.compares = func(o plan.Observed) plan.Observed {
				for name, was := range old {
					o.Backends[name] = plan.Backend{Servers: was}
				}
				return o
			}
			for name, servers := range b.haproxy.backends {
				for _, s := range servers {
					old[name] = append(old[name], s.Server)
				}
			}
			b.haproxy.holdCompare = make(chan struct{})
		})
		hold := b.haproxy.holdCompare
		b.passes(3 * time.Second) // it has begun
		b.catalog.says("api", many(3)...)
		b.runs(500*time.Millisecond, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up")
		sent := len(b.haproxy.steps())
		b.haproxy.with(func() {
			b.haproxy.server("web_nodes", "web-1").Admin = plan.Drain
			old["web_nodes"][0].Admin = plan.Drain
		})
		close(hold)
		b.haproxy.with(func() { b.haproxy.holdCompare = nil })
		b.passes(100 * time.Millisecond)
		if got := b.haproxy.steps()[sent:]; !slices.Equal(got, []string{"ready web-1"}) {
			t.Errorf("after the comparison sent %q, want only the correction of web-1", got)
		}
	})
}

// Another worker, and a maintenance, are seen as soon on a large fleet as on a small
// one: to ask for them costs nothing.
func TestCompare_LargeFleet_WorkerAndMaintenanceAreSeenWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rotating(t)
		b.settings.Reconcile = 2 * time.Second
		b.agent.Reconfigure(b.settings)
		b.haproxy.with(func() { b.haproxy.observeTakes = 500 * time.Millisecond })
		for range 20 {
			b.passes(7 * time.Second)
			before := b.agent.State().HAProxy.PID
			b.haproxy.start() // an operator reloads it
			b.eventually("another worker", 3*time.Second, func() bool { return b.agent.State().HAProxy.PID != before })
			b.passes(7 * time.Second)
			on := !b.agent.State().HAProxy.Maintenance
			b.maintain(on)
			b.eventually("state and file have the maintenance", 3*time.Second, func() bool {
				return b.agent.State().HAProxy.Maintenance == on && b.inMaintenance() == on
			})
		}
	})
}

// A container that is replaced may have the same PID and another version.
func TestCompare_SamePIDAndAnotherVersion_IsAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.caps.Version = "3.4.7" })
		b.passes(b.settings.Reconcile + time.Second)
		if got := b.agent.State().HAProxy.Version; got != "3.4.7" {
			t.Errorf("the state has version %s, want 3.4.7", got)
		}
	})
}

// HAProxy was away for a moment when it was compared, and the loop was in a long call then:
// what is so by now decides.
func TestCompare_FailedWhileTheLoopWasBusy_HAProxyThatRunsAgainIsNotTakenForStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		have, want := route.Map{"a.test/": "api_nodes"}, route.Map{"b.test/": "api_nodes"}
		b := routing(t, have, have)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdCompare = hold })
		b.passes(b.settings.Reconcile + time.Second) // a comparison is under way
		b.maps.with(func() { b.maps.takes = 3 * time.Second })
		b.settings.Maps = routes(want)
		changed := b.settings
		changed.Automatic, changed.OnlyRoutes = true, true
		b.agent.Reconfigure(changed)
		b.passes(time.Second) // the loop reads the map
		b.haproxy.stop()
		b.haproxy.with(func() { b.haproxy.holdCompare = nil })
		close(hold)
		b.passes(time.Second)
		b.haproxy.start()
		b.passes(time.Minute)
		if n := b.log.count("HAProxy not running"); n > 0 {
			t.Errorf("HAProxy runs when the loop gets to see it, and is taken for stopped:\n%s", b.log)
		}
	})
}

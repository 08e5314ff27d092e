package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// rotating is a bench on which HAProxy serves and has a health answer.
func rotating(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, true)
	b.settings.Rotation = true
	b.catalog.says("api", instance("a", 1))
	d := plan.Desired{Marker: b.renderer.marker, Services: b.settings.Services, Rotation: true}
	content, err := b.renderer.Render(plan.Compute(d, plan.Observed{Caps: b.haproxy.caps}, b.catalog.Snapshot()).File)
	if err != nil {
		t.Fatal(err)
	}
	b.file.content = content
	b.haproxy.start()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	return b
}

// maintain does what `pointsman maintenance` does.
func (b *bench) maintain(on bool) {
	b.haproxy.with(func() {
		lb := b.haproxy.server(plan.RotationBackend, plan.RotationServer)
		lb.Admin = plan.Ready
		if on {
			lb.Admin = plan.Maint
		}
	})
}

// inMaintenance is whether the file begins so.
func (b *bench) inMaintenance() bool {
	enabled, _ := b.file.shows(plan.RotationBackend)
	return len(enabled) == 0
}

func TestMaintenanceIsSeenWrittenAndLoggedAndNeverCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rotating(t)
		if b.inMaintenance() || b.agent.State().HAProxy.Maintenance {
			t.Fatal("in maintenance at first")
		}
		for i, on := range []bool{true, false, true} {
			b.maintain(on)
			b.eventually("state and file say the same", b.settings.Reconcile+time.Second, func() bool {
				return b.agent.State().HAProxy.Maintenance == on && b.inMaintenance() == on
			})
			b.passes(5 * time.Minute)
			if b.agent.State().HAProxy.Maintenance != on {
				t.Errorf("maintenance %v: it did not stay", on)
			}
			if got, want := b.log.count("maintenance on"), i/2+1; got != want {
				t.Errorf("lines that it began: got %d, want %d", got, want)
			}
			if got, want := b.log.count("maintenance off"), (i+1)/2; got != want {
				t.Errorf("lines that it is over: got %d, want %d", got, want)
			}
		}
		if sent := b.haproxy.steps(); len(sent) > 0 {
			t.Errorf("sent %q, want nothing", sent)
		}
		if reloads := b.haproxy.reloadTimes(); len(reloads) > 0 {
			t.Errorf("%d reloads, want none", len(reloads))
		}
	})
}

func TestAnHAProxyReplacedInMaintenanceComesBackInMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rotating(t)
		b.maintain(true)
		b.eventually("the file says so", b.settings.Reconcile+time.Second, b.inMaintenance)
		b.haproxy.stop()
		b.passes(10 * time.Second)
		if !b.inMaintenance() || !b.agent.State().HAProxy.Maintenance {
			t.Error("without a HAProxy: the file or the state has forgotten it")
		}
		b.catalog.says("api", instance("a", 1), instance("b", 2)) // the file is written again
		b.passes(10 * time.Second)
		b.haproxy.start()
		b.passes(10 * time.Second)
		if !b.agent.State().HAProxy.Maintenance || !b.inMaintenance() {
			t.Error("the new HAProxy is in rotation")
		}
		if got := b.log.count("maintenance"); got != 1 {
			t.Errorf("lines about maintenance: got %d, want the one that it began", got)
		}
		b.maintain(false)
		b.eventually("it is over", b.settings.Reconcile+time.Second, func() bool { return !b.inMaintenance() })
	})
}

func TestAReloadInMaintenanceStaysInMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rotating(t)
		b.maintain(true)
		b.eventually("the file says so", b.settings.Reconcile+time.Second, b.inMaintenance)
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.eventually("a reload", 30*time.Second, func() bool { return len(b.haproxy.reloadTimes()) == 1 })
		b.passes(10 * time.Second)
		if !b.agent.State().HAProxy.Maintenance || !b.inMaintenance() {
			t.Error("after the reload it is in rotation")
		}
	})
}

// The sidecar may be replaced together with HAProxy.
func TestMaintenanceIsRecalledFromTheFileWhereHAProxyDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.settings.Rotation = true
		b.file.content = []byte("backend pointsman.rotation\n    server lb 127.0.0.1:9 weight 1 disabled\n")
		b.catalog.says("api", instance("a", 1))
		b.start()
		b.eventually("a new file", 5*time.Second, func() bool { return b.file.writes() == 1 })
		if !b.inMaintenance() || !b.agent.State().HAProxy.Maintenance {
			t.Error("the new file is in rotation, want it as the old one")
		}
	})
}

func TestMaintenanceIsNotAskedForWithoutAHealthAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1))
		b.passes(5 * time.Minute)
		for _, asked := range b.haproxy.observations() {
			if len(asked) > 0 && asked[0] == plan.RotationBackend {
				t.Errorf("read %q, want the services' backends only", asked)
			}
		}
	})
}

// A comparison takes a while. What it has read of before a maintenance began does not
// end it: a reload just then would bring HAProxy back into rotation.
func TestMaintenance_BeginsDuringAComparison_Stays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rotating(t)
		b.passes(time.Second)
		hold := make(chan struct{})
		b.haproxy.with(func() {
			b.haproxy.holdCompare = hold
			b.haproxy.compares = func(o plan.Observed) plan.Observed { // as it was when it began
				o.Backends[plan.RotationBackend].Servers[0].Admin = plan.Ready
				return o
			}
		})
		b.passes(b.settings.Reconcile) // it has begun
		b.maintain(true)
		b.catalog.says("api", instance("a", 1), instance("b", 2)) // HAProxy is read
		b.eventually("the file says so", time.Second, b.inMaintenance)
		b.passes(5 * time.Second) // nothing is left to be read
		close(hold)
		b.passes(time.Second)
		if !b.agent.State().HAProxy.Maintenance || !b.inMaintenance() {
			t.Error("the comparison has ended it in the state or in the file")
		}
		if got := b.log.count("maintenance off"); got != 0 {
			t.Errorf("got %d lines that it is over, want none", got)
		}
	})
}

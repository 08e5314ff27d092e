package reconcile_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// A check command that takes long, or a slow disk, delays no change. A drain is
// not acknowledged before the file has it.
func TestFileWrite_TakesLong_ChangesGoThroughAndDrainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		hold := make(chan struct{})
		b.file.with(func() { b.file.hold = hold })

		four := append(many(3), instance("api-4", 4))
		b.catalog.says("api", four...)
		b.passes(b.settings.FileDelay + time.Second) // the write has begun
		if got := b.haproxy.server("api_nodes", "api-4"); got == nil {
			t.Fatal("the new instance is not in HAProxy")
		}
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000", "api-3 10.0.0.3:4000")

		leaving(&four[0])
		b.catalog.says("api", four...)
		b.passes(2 * time.Second)
		if got := b.haproxy.server("api_nodes", "api-1"); got == nil || got.Admin != plan.Maint {
			t.Errorf("the leaving server is in %s while the file is written, want maint", got.Admin)
		}
		if s := b.agent.State(); s.File.Current || !s.File.Pending {
			t.Errorf("while the file is written: got current %v, pending %v, want false, true", s.File.Current, s.File.Pending)
		}
		if d, _ := b.agent.State().Drain("api", "api-1"); d.Drained {
			t.Error("called drained before the file has it")
		}

		b.file.with(func() { b.file.hold = nil })
		close(hold)
		b.eventually("drained", 2*time.Second, func() bool {
			d, _ := b.agent.State().Drain("api", "api-1")
			return d.Drained
		})
		if got, _ := b.file.shows("api_nodes"); slices.Contains(got, "api-1 10.0.0.1:4000") {
			t.Errorf("called drained, and the file has %q", got)
		}
	})
}

// The newest model is written after the one that is under way, and none between.
func TestFileWrite_ChangesDuringWrite_NewestIsWrittenNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(1)...)
		hold := make(chan struct{})
		b.file.with(func() { b.file.hold = hold })
		writes := b.file.writes()
		for n := 2; n <= 6; n++ {
			b.catalog.says("api", many(n)...)
			b.passes(b.settings.FileDelay + time.Second)
		}
		b.file.with(func() { b.file.hold = nil })
		close(hold)
		b.passes(b.settings.FileDelay + time.Second)
		if got := b.file.writes() - writes; got != 2 {
			t.Errorf("got %d writes, want 2: the one that was under way, and the newest", got)
		}
		if got, _ := b.file.shows("api_nodes"); len(got) != 6 {
			t.Errorf("the file has %q, want 6 servers", got)
		}
	})
}

// A sidecar that has to end does not wait for a write that hangs.
func TestFileWrite_Hangs_SidecarEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(1)...)
		b.file.with(func() { b.file.hold = make(chan struct{}) })
		b.catalog.says("api", many(2)...)
		b.passes(b.settings.FileDelay + time.Second)
		began := time.Now()
		b.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s to end", took)
		}
	})
}

// A reload delays no server that comes to the worker that serves, and if it hangs,
// none that goes. A drain is not acknowledged before the new worker and the file have it.
func TestReload_TakesLong_ChangesGoThroughAndDrainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad = hold })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.ReloadDebounce + time.Second) // the reload has begun

		four := append(many(3), instance("api-4", 4))
		leaving(&four[0])
		b.catalog.says("api", four...)
		// The new worker may come any moment, and what goes out might go out there.
		b.runs(500*time.Millisecond, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up", "api-4 10.0.0.4:4000 ready up")
		b.passes(2 * time.Second)
		b.runs(0, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up", "api-4 10.0.0.4:4000 ready up")
		b.passes(5 * time.Second) // it hangs
		b.runs(500*time.Millisecond, "api-1 10.0.0.1:4000 maint down", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up", "api-4 10.0.0.4:4000 ready up")
		if d, _ := b.agent.State().Drain("api", "api-1"); d.Drained {
			t.Error("called drained, and the new worker will have it")
		}
		if s := b.agent.State(); s.File.Current || !s.File.Pending || s.Reloads.Pending != "template_changed" {
			t.Errorf("while HAProxy reloads: got %+v, %+v, want a file that is not current, pending, and a reload", s.File, s.Reloads)
		}

		close(hold) // the new worker begins with what was written before
		b.runs(500*time.Millisecond, "api-1 10.0.0.1:4000 maint down", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up", "api-4 10.0.0.4:4000 ready up")
		b.eventually("drained", 2*time.Second, func() bool { return b.drained("api-1") })
		b.wantFile("api-2 10.0.0.2:4000", "api-3 10.0.0.3:4000", "api-4 10.0.0.4:4000")
		b.wantTold("reload", "reload template_changed: ok")
	})
}

// A server that is to be ready at the address that it has in the worker before may
// have another one in the new worker.
func TestReload_ServerBecomesHealthyMeanwhile_IsReadyAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		ill := many(3)
		ill[1].Health = catalog.Critical
		b.catalog.says("api", ill...)
		b.passes(time.Minute)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad = hold })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.ReloadDebounce + time.Second) // the reload has begun
		b.catalog.says("api", many(3)...)
		b.passes(2 * time.Second)
		if slices.Contains(b.haproxy.steps(), "ready api-2") {
			t.Error("made ready while a new worker may begin to serve")
		}
		close(hold)
		b.eventually("it is ready", 2*time.Second, func() bool { return slices.Contains(b.haproxy.steps(), "ready api-2") })
	})
}

// New settings that come while a reload is under way need not wait until the next
// may start.
func TestReload_NewSettingsMeanwhile_NextStartsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(1)...)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad = hold })
		for _, template := range []string{"t2", "t3"} {
			b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: template, Services: "s1", Settings: "g1"}}
			b.agent.Reconfigure(b.settings)
			b.passes(b.settings.ReloadDebounce + time.Second)
		}
		b.haproxy.with(func() { b.haproxy.holdLoad = nil })
		close(hold)
		b.passes(time.Second)
		b.wantTold("reload", "reload template_changed: ok", "reload template_changed: ok")
	})
}

// A sidecar that has to end does not wait for a reload that hangs.
func TestReload_Hangs_SidecarEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(1)...)
		b.haproxy.with(func() { b.haproxy.holdLoad = make(chan struct{}) })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.ReloadDebounce + time.Second)
		began := time.Now()
		b.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s to end", took)
		}
	})
}

// Whether a rejected service has become valid is looked at beside the loop, too.
func TestRejectedService_TrialTakesLong_ChangesGoThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.reconfigure("api_nodes=bad web_nodes=1")
		b.eventually("the service is left out", 5*time.Second, func() bool { return len(b.agent.State().File.LeftOut) == 1 })
		b.passes(2 * time.Second)
		hold := make(chan struct{})
		b.file.with(func() { b.file.hold = hold })
		b.passes(time.Minute) // a trial has begun
		b.catalog.says("web", instance("web-1", 9), instance("web-2", 8))
		b.eventually("the change is in HAProxy", time.Second, func() bool { return b.haproxy.server("web_nodes", "web-2") != nil })
		b.file.with(func() { b.file.hold, b.file.reject = nil, nil })
		close(hold)
		b.wantRuns("api_nodes=bad web_nodes=1")
		b.wantLeftOut("")
	})
}

package reconcile_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestTheFirstFileIsWrittenAtOnceIfAllIsKnown(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.catalog.says("api", instance("api-1", 1))
		b.start()
		b.passes(0)
		name := map[bool]string{false: "slot-1", true: "api-1"}[dynamic]
		b.wantFile(name + " 10.0.0.1:4000")
		// HAProxy starts behind it and is adopted.
		b.haproxy.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		b.passes(time.Minute)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
	})
}

func TestTheFirstFileWaitsASecondForConsul(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.start()
		b.passes(900 * time.Millisecond)
		if n := b.file.writes(); n != 0 {
			t.Fatalf("got %d writes within 900 ms, want none", n)
		}
		b.passes(300 * time.Millisecond)
		if n := b.file.writes(); n != 1 {
			t.Fatalf("got %d writes after 1.2 s, want one, without servers: HAProxy waits for it", n)
		}
		b.wantFile()
		b.catalog.says("api", instance("api-1", 1))
		b.passes(b.settings.FileDelay + 200*time.Millisecond)
		b.wantFile("api-1 10.0.0.1:4000")
	})
}

func TestAFileIsNotOverwrittenWhileAServiceIsUnknownAndHAProxyIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		b.haproxy.stop()
		b.catalog.answers(catalog.Service{Name: "web"})
		b.catalog.says("api", many(2)...)
		b.start()
		b.passes(10 * time.Minute)
		if n := b.file.writes(); n != 0 {
			t.Fatalf("got %d writes, want none: web's servers would be lost", n)
		}
		b.catalog.says("web", instance("web-1", 9))
		b.passes(time.Second)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
		if got, _ := b.file.shows("web_nodes"); !slices.Equal(got, []string{"web-1 10.0.0.9:4000"}) {
			t.Errorf("got %q of web, want web-1", got)
		}
	})
}

func TestTheFileFollowsConsulWhileHAProxyIsAway(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1))
		b.haproxy.stop()
		b.passes(b.settings.Reconcile) // it is noticed
		b.catalog.says("api", many(3)...)
		b.passes(time.Second)
		prefix := map[bool]string{false: "slot-", true: "api-"}[dynamic]
		b.wantFile(prefix+"1 10.0.0.1:4000", prefix+"2 10.0.0.2:4000", prefix+"3 10.0.0.3:4000")
		if s := b.agent.State(); s.HAProxy.Running || s.HAProxy.Error == "" || !s.File.Current {
			t.Errorf("got %+v, %+v, want HAProxy not running, and a file that is current", s.HAProxy, s.File)
		}
		if n := b.log.count("HAProxy not running, waiting"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		// It comes back with it: nothing to do.
		b.haproxy.start()
		b.passes(time.Minute)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		if n := b.log.count("HAProxy connected"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
	})
}

func TestAnHAProxyThatComesBackWithAnOldFileIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		old, _ := b.file.Read()
		b.haproxy.stop()
		b.passes(b.settings.Reconcile) // it is noticed
		b.catalog.says("api", instance("api-2", 2), instance("api-3", 3))
		b.passes(time.Second)
		b.haproxy.startWith(old)
		b.runs(5*time.Second, "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up")
		b.wantTold("step",
			"step api add api-3: registered: ok", "step api drain api-1: deregistered: ok",
			"step api maint api-1: drained: ok", "step api delete api-1: deregistered: ok")
	})
}

// A file with fewer servers than HAProxy has is fine for a moment; hundreds of
// validations and writes in a burst are not.
func TestWritesOfTheFileAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.catalog.says("api", many(2)...)
		b.passes(time.Second)
		before := b.file.writes()
		for n := range 50 {
			b.catalog.says("api", many(3+n)...)
		}
		b.passes(time.Second)
		if n := b.file.writes() - before; n < 1 || n > 3 {
			t.Errorf("got %d writes for a burst of 50 changes in 50 ms, want one to three", n)
		}
		if got, _ := b.file.shows("api_nodes"); len(got) != 52 {
			t.Errorf("got %d servers in the file, want 52", len(got))
		}
	})
}

func TestAFileThatSomeoneChangedIsWrittenAgainOnTheNextReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		good, _ := b.file.Read()
		b.file.with(func() { b.file.content = []byte("{}") })
		b.passes(b.settings.Reconcile + time.Second)
		if got, _ := b.file.Read(); !slices.Equal(got, good) {
			t.Errorf("got %s, want %s", got, good)
		}
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2)) // no one else's
		b.passes(3 * b.settings.Reconcile)
		b.wantTold("file: put back", "file: put back")
		if n, logged := b.agent.State().File.PutBack, b.log.count("[WARN]", "haproxy.cfg drift corrected"); n != 1 || logged != 1 {
			t.Errorf("got %d counted and %d logged, want 1 and 1:\n%s", n, logged, b.log)
		}
	})
}

// New settings that are the same have another renderer.
func TestFile_ChangedBySomeoneAndSettingsReread_PutBackAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Second)
		good, _ := b.file.Read()
		b.file.with(func() { b.file.content = []byte("{}") })
		b.settings.Renderer = &fakeRenderer{marker: b.renderer.marker}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.Reconcile + time.Second)
		if got, _ := b.file.Read(); !slices.Equal(got, good) {
			t.Errorf("got %s, want %s", got, good)
		}
		b.wantTold("file: put back", "file: put back")
	})
}

func TestAWriteThatFailsIsTriedAgainAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		tries := 0
		b.file.with(func() { b.file.reject = func([]byte) error { tries++; return errors.New("disk full") } })
		b.catalog.says("api", many(2)...)
		b.passes(10 * time.Minute)
		b.file.with(func() {
			if tries < 10 || tries > 1000 {
				t.Errorf("got %d tries in ten minutes, want some, with growing waits", tries)
			}
		})
		if n := b.log.count("haproxy.cfg write failed", "disk full"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		if f := b.agent.State().File; f.Current || f.Error != "disk full" {
			t.Errorf("got %+v, want not current, for disk full", f)
		}
		// HAProxy has it all the same.
		b.runs(time.Second, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up")
		b.file.with(func() { b.file.reject = nil })
		b.eventually("it is written", 15*time.Second, func() bool { return b.agent.State().File.Current })
		if got := b.agent.State().File.Error; got != "" {
			t.Errorf("got the error %q, want none any more", got)
		}
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
		if n := b.log.count("haproxy.cfg write recovered"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
	})
}

func TestAWriteThatFailedAndIsNotNeededAnyMoreIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.file.with(func() { b.file.reject = func([]byte) error { return errors.New("HAProxy rejects it") } })
		b.catalog.says("api", many(2)...)
		b.passes(5 * time.Second)
		b.catalog.says("api", instance("api-1", 1))
		b.passes(15 * time.Second) // before all is compared anyway
		if f := b.agent.State().File; f.Error != "" || !f.Current {
			t.Errorf("got %+v, want a current file without an error: it is as it was", f)
		}
	})
}

// HAProxy runs what an older template made, which this sidecar does not have:
// what it would write is not what runs.
func TestAFileThatTheRunningHAProxyWasNotMadeFromIsLeftUntilTheReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.haproxy.old = b.settings.MaxOldWorkers // so that no reload comes
		b.start()
		b.catalog.says("api", many(2)...)
		b.passes(5 * time.Minute)
		if n := b.file.writes(); n != 0 {
			t.Errorf("got %d writes, want none", n)
		}
		b.runs(time.Second, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up")
	})
}

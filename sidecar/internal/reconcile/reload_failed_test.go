package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// lessons.md, bug 1: a failed reload must not count as done.
func TestAFailedReloadKeepsTheLastGoodFileAndIsTriedAgainMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("cannot bind *:80") } })
		b.catalog.says("api", many(6)...)
		began := time.Now()
		b.passes(b.settings.ReloadDebounce + 50*time.Millisecond)

		b.file.with(func() {
			if len(b.file.restored) != 1 || b.file.restored[0].Error() != "cannot bind *:80" {
				t.Fatalf("got %v, want the last good file put back because HAProxy cannot bind", b.file.restored)
			}
		})
		b.passes(time.Second)
		// It follows the servers again, those without a slot among them, so that
		// a restart of HAProxy would get all.
		b.wantFile("slot-1 10.0.0.1:4000", "slot-2 10.0.0.2:4000", "slot-3 10.0.0.3:4000", "slot-4 10.0.0.4:4000",
			"slot-5 10.0.0.5:4000", "slot-6 10.0.0.6:4000")
		s := b.agent.State()
		if got := s.Reloads; got.Failed != 1 || got.Succeeded != 0 || got.Error != "cannot bind *:80" || got.Pending != "slots_exhausted" {
			t.Errorf("got %+v, want one that failed, and the need for it", got)
		}
		if !s.File.Current {
			t.Error("got a file that is not current, want the runtime's servers in it")
		}

		b.passes(30 * time.Minute)
		var waits []time.Duration
		times := b.since(began)
		for i := 1; i < len(times); i++ {
			waits = append(waits, (times[i] - times[i-1]).Round(time.Second))
		}
		want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 320 * time.Second}
		if len(waits) < len(want) || !slices.Equal(waits[:len(want)], want) {
			t.Errorf("got tries with %v between them, want %v and so on", waits, want)
		}

		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		b.eventually("it succeeds", 6*time.Minute, func() bool { return b.agent.State().Reloads.Succeeded == 1 })
		b.passes(time.Second)
		if got := b.agent.State().Reloads; got.Error != "" || got.Pending != "" {
			t.Errorf("got %+v, want no error and nothing pending", got)
		}
		if got := len(b.haproxy.shows("api_nodes")); got != 6 {
			t.Errorf("got %d servers, want 6", got)
		}
		told := b.recorder.told("reload")
		if told[0] != "reload slots_exhausted: cannot bind *:80" || told[len(told)-1] != "reload slots_exhausted: ok" {
			t.Errorf("recorded %q, want each with its reason and its result", told)
		}

		// The next failure is a first one again.
		b.passes(b.settings.ReloadInterval)
		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("cannot bind *:80") } })
		b.catalog.says("api", many(20)...)
		began = time.Now()
		b.passes(time.Minute)
		got := slices.DeleteFunc(b.since(began), func(d time.Duration) bool { return d < 0 })
		if len(got) != 3 {
			t.Errorf("got tries after %v, want three in a minute: the waits begin again", got)
		}
	})
}

// A sidecar that has just been started knows no content that it wrote itself.
func TestAFailedReloadOfANewSidecarPutsBackTheFileOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		before, _ := b.file.Read()
		b.renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.settings.Renderer = b.renderer
		b.haproxy.failLoad = func([]byte) error { return errors.New("no") }
		b.start()
		b.passes(time.Minute)
		content, _ := b.file.Read()
		if !slices.Equal(content, before) {
			t.Errorf("got the file %s, want the one before: %s", content, before)
		}
	})
}

// While HAProxy is stopped the file follows with newer settings, and a node is
// called drained by that. HAProxy starts from it, and a reload to the next settings
// fails. What was last written for the settings before is older than the drain.
func TestFailedReload_LastGoodFileOlderThanADrain_DoesNotBringTheServerBack(t *testing.T) {
	for name, seen := range map[string]bool{"the started worker is seen first": true, "the next settings come first": false} {
		t.Run(name, inTime(func(t *testing.T) {
			b := serving(t, true, instance("api-1", 1))
			settings := func(digest string) {
				b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s1", Settings: digest}}
				b.agent.Reconfigure(b.settings)
				b.passes(time.Second)
			}
			b.catalog.says("api", many(2)...)
			b.passes(5 * time.Second)
			b.haproxy.stop()
			settings("a2")
			b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving))
			b.passes(time.Second)
			if !b.drained("api-2") {
				t.Fatal("api-2 is not drained: HAProxy is stopped and its file has no api-2")
			}
			b.catalog.says("api", instance("api-1", 1))
			b.passes(time.Second)
			second, _ := b.file.Read()
			b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("no") } })
			restored := func() { b.wantFile("api-1 10.0.0.1:4000") }
			b.file.with(func() { b.file.onRestore = restored })
			if seen {
				b.haproxy.startWith(second)
				b.passes(time.Second)
				settings("a3")
			} else {
				settings("a3")
				b.haproxy.startWith(second)
			}
			b.passes(5 * time.Second)
			b.file.with(func() {
				if len(b.file.restored) == 0 {
					t.Fatal("no reload has failed")
				}
			})
		}))
	}
}

// Success is what HAProxy shows: an answer alone proves nothing.
func TestAReloadAfterWhichHAProxyStillRunsTheOldFileIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.haproxy.with(func() { b.haproxy.lieLoad = true })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(time.Minute)
		if n := len(b.haproxy.reloadTimes()); n < 3 {
			t.Fatalf("got %d tries, want it to go on", n)
		}
		b.haproxy.with(func() { b.haproxy.lieLoad = false })
		b.passes(time.Minute)
		n := len(b.haproxy.reloadTimes())
		b.passes(10 * time.Minute)
		if got := len(b.haproxy.reloadTimes()) - n; got != 0 {
			t.Errorf("got %d more after it was true, want none", got)
		}
	})
}

func TestARejectedTemplateHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.file.with(func() {
			b.file.reject = func(content []byte) error {
				if strings.Contains(string(content), `"Template":"t2"`) {
					return errors.New("HAProxy rejects it")
				}
				return nil
			}
		})
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(5 * time.Second)
		if got := b.agent.State().Reloads; got.Error != "HAProxy rejects it" || got.Pending != "template_changed" {
			t.Errorf("got %+v, want template_changed pending, for HAProxy rejects it", got)
		}
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none of what is not in the file", n)
		}
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.runs(time.Second, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up")
		b.eventually("the file has it", 20*time.Second, func() bool {
			servers, template := b.file.shows("api_nodes")
			return len(servers) == 2 && template == "t1"
		})
		// It is well with HAProxy away, too.
		b.haproxy.stop()
		b.catalog.says("api", many(3)...)
		b.eventually("the file has it, with HAProxy away", 20*time.Second, func() bool {
			servers, template := b.file.shows("api_nodes")
			return len(servers) == 3 && template == "t1"
		})
		b.haproxy.start()
		b.file.with(func() { b.file.reject = nil })
		b.eventually("the template is taken", 6*time.Minute, func() bool {
			_, template := b.file.shows("api_nodes")
			return template == "t2" && len(b.haproxy.reloadTimes()) == 1
		})
	})
}

// Found by the soak: a template that HAProxy rejects was put back, and the state
// its error stays reported.
func TestTheErrorOfAReloadEndsWhenWhatWasWrongIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		good := b.settings.Renderer
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2"}, err: errors.New("template: x:3: no such field")}
		b.agent.Reconfigure(b.settings)
		b.passes(5 * time.Second)
		if got := b.agent.State().Reloads.Error; got == "" {
			t.Fatal("got no error, want the renderer's")
		}
		b.haproxy.stop()
		b.passes(5 * time.Second)
		if got := b.agent.State().Reloads.Error; got == "" {
			t.Error("with HAProxy away: got no error, want the renderer's still")
		}
		b.haproxy.start()
		b.settings.Renderer = good
		b.agent.Reconfigure(b.settings)
		b.passes(5 * time.Second)
		if got := b.agent.State().Reloads; got.Error != "" || got.Pending != "" || got.Succeeded != 0 {
			t.Errorf("got %+v, want no error any more, without a reload", got)
		}
	})
}

func TestATemplateThatCannotBeRenderedHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2"}, err: errors.New("template: x:3: no such field")}
		b.agent.Reconfigure(b.settings)
		b.catalog.says("api", many(2)...)
		b.passes(20 * time.Second)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
		if got := b.agent.State().Reloads.Error; got != "template: x:3: no such field" {
			t.Errorf("got %q, want the renderer's error", got)
		}
	})
}

func TestAReloadThatIsCutShortByTheEndIsNotCountedAsFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		cancel := b.cancel
		b.haproxy.with(func() {
			b.haproxy.failLoad = func([]byte) error {
				cancel()
				return context.Canceled
			}
		})
		b.catalog.says("api", many(6)...)
		b.passes(time.Minute)
		b.wantTold("reload")
		b.file.with(func() {
			if len(b.file.restored) != 0 {
				t.Error("the file was put back on the way out")
			}
		})
	})
}

// A reload onto a file that can't be loaded ends the master of some versions.
func TestAFileThatHAProxyFindsInvalidIsNotLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		b.file.with(func() { b.file.invalid = errors.New("unable to load certificate") })
		b.catalog.says("api", many(6)...)
		b.passes(time.Minute)
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
		if got := b.agent.State().Reloads; got.Failed == 0 || got.Error != "unable to load certificate" {
			t.Errorf("got %+v, want a failure that says why", got)
		}
		b.file.with(func() { b.file.invalid = nil })
		b.eventually("it is loaded", 10*time.Minute, func() bool { return b.agent.State().Reloads.Succeeded == 1 })
	})
}

// What a reload should bring may not come by it: a template that leaves a backend out.
func TestReload_DoesNotBringTheNeeded_IsTriedAgainMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.settings.ReloadInterval = 2 * time.Second
		b.catalog.says("api", instance("a", 1))
		b.haproxy.loseLoad = "api_nodes"
		b.adoptable()
		b.start()
		b.passes(10 * time.Minute)
		if n := len(b.haproxy.reloadTimes()); n < 5 || n > 11 {
			t.Errorf("got %d reloads in 10 minutes, want 5 to 11: %v", n, b.haproxy.reloadTimes())
		}
		if n := b.log.count("[WARN]", "reload was needed again"); n < 4 {
			t.Errorf("got %d lines that say so:\n%s", n, b.log)
		}
		b.haproxy.with(func() { b.haproxy.loseLoad = "" })
		b.passes(3 * time.Minute)
		if n := b.log.count("reload was needed again"); b.agent.State().Services[0].Instances[0].Phase != reconcile.PhaseUp {
			t.Errorf("the instance is not up after the backend has come, %d lines", n)
		}
	})
}

// New routes are no other settings: they do not make it be tried as often as at first.
func TestReload_DoesNotBringTheNeededWhileRoutesChange_IsTriedMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.settings.ReloadInterval = 2 * time.Second
		b.maps, b.settings.Maps = &fakeMaps{entries: map[string][]route.Entry{}}, routes(route.Map{})
		b.catalog.says("api", instance("a", 1))
		b.haproxy.loseLoad = "api_nodes"
		b.adoptable()
		b.start()
		for n := range 600 {
			b.passes(time.Second)
			b.reroute(route.Map{fmt.Sprintf("h%d.test/", n): "web_nodes"})
		}
		if n := len(b.haproxy.reloadTimes()); n < 5 || n > 11 {
			t.Errorf("got %d reloads in 10 minutes, want 5 to 11", n)
		}
	})
}

// Another program loads a file of its own a while after each reload of ours: each of ours
// brings what it should, and is needed again.
func TestReload_AnotherProgramLoadsItsOwnAfterEach_IsMadeMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.settings.ReloadInterval, b.settings.Reconcile = 2*time.Second, time.Second
		b.catalog.says("api", instance("a", 1))
		b.adoptable()
		b.start()
		b.passes(time.Minute)
		theirs := func() {
			b.haproxy.with(func() {
				b.haproxy.pid++
				b.haproxy.marker = plan.Marker{}
			})
		}
		b.haproxy.with(func() {
			b.haproxy.onLoad = func() { time.AfterFunc(5*time.Second, theirs) }
		})
		theirs()
		b.passes(10 * time.Minute)
		if n := len(b.haproxy.reloadTimes()); n < 5 || n > 12 {
			t.Errorf("got %d reloads in 10 minutes, want 5 to 12: %v", n, b.haproxy.reloadTimes())
		}
		if n := b.log.count("[WARN]", "reload was needed again"); n < 3 {
			t.Errorf("got %d lines that say so:\n%s", n, b.log)
		}

		// The other program has stopped. What it does once, much later, is undone at once.
		b.haproxy.with(func() { b.haproxy.onLoad = nil })
		b.passes(15 * time.Minute)
		before := len(b.haproxy.reloadTimes())
		theirs()
		b.passes(10 * time.Second)
		if n := len(b.haproxy.reloadTimes()) - before; n != 1 {
			t.Errorf("got %d reloads within 10 s, want 1", n)
		}
	})
}

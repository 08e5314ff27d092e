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

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// many gives instances api-1 to api-n.
func many(n int) (out []catalog.Instance) {
	for k := range n {
		out = append(out, instance(fmt.Sprintf("api-%d", k+1), k+1))
	}
	return out
}

// since gives the times of the reloads, from a moment on.
func (b *bench) since(t time.Time) (out []time.Duration) {
	for _, r := range b.haproxy.reloadTimes() {
		out = append(out, r.Sub(t))
	}
	return out
}

func (b *bench) wantReloads(t time.Time, want ...time.Duration) {
	b.t.Helper()
	got := b.since(t)
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = got[i] >= want[i] && got[i] < want[i]+50*time.Millisecond
	}
	if !ok {
		b.t.Errorf("got reloads after %v, want after %v, to 50 ms", got, want)
	}
}

func TestAReloadWaitsForMoreChangesOfItsKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1)) // 4 slots
		b.passes(time.Minute)
		b.catalog.says("api", many(6)...)
		began := time.Now()
		b.passes(150 * time.Millisecond) // less than ReloadDebounce
		b.catalog.says("api", many(8)...)
		b.passes(5 * time.Second)
		b.wantReloads(began, 150*time.Millisecond+b.settings.ReloadDebounce)
		if got := len(b.haproxy.shows("api_nodes")); got != 8 {
			t.Errorf("got %d servers, want 8", got)
		}
		b.wantTold("reload", "reload slots_exhausted: ok")
	})
}

func TestAReloadDoesNotWaitForMoreThanSettleMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		began := time.Now()
		for n := 6; time.Since(began) < b.settings.ReloadMaxDelay; n++ {
			b.catalog.says("api", many(n)...)
			b.passes(150 * time.Millisecond)
		}
		b.passes(time.Second)
		b.wantReloads(began, b.settings.ReloadMaxDelay)
	})
}

func TestReloadsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		began := time.Now()
		b.catalog.says("api", many(6)...)
		b.passes(time.Second)
		b.catalog.says("api", many(20)...)
		b.passes(b.settings.ReloadInterval * 3)
		b.wantReloads(began, b.settings.ReloadDebounce, b.settings.ReloadDebounce+b.settings.ReloadInterval)
		if got := b.agent.State().Reloads; got.Succeeded != 2 || got.Failed != 0 || got.LastReason != "slots_exhausted" || got.Pending != "" || got.Error != "" {
			t.Errorf("got %+v, want two that succeeded and none pending", got)
		}
	})
}

func TestAReloadWaitsWhileTooManyOldWorkersLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.old = b.settings.MaxOldWorkers })
		b.catalog.says("api", many(6)...)
		b.passes(10 * time.Minute)
		if got := b.since(b.began); len(got) != 0 {
			t.Fatalf("got reloads after %v, want none", got)
		}
		if n := b.log.count("reload delayed by old workers"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		if got := b.agent.State().Reloads.Pending; got != "slots_exhausted" {
			t.Errorf("got %q pending, want slots_exhausted", got)
		}
		// What needs no reload goes on: four slots are all that there is.
		if got := len(b.haproxy.shows("api_nodes")); got != 4 {
			t.Errorf("got %d servers, want 4", got)
		}
		b.wantTold("applied") // two instances wait
		b.haproxy.with(func() { b.haproxy.old-- })
		b.eventually("the reload", 2*time.Second, func() bool { return len(b.haproxy.reloadTimes()) == 1 })
		b.eventually("it is applied", time.Second, func() bool { return len(b.recorder.told("applied")) == 1 })
	})
}

func TestAReloadWaitsWhileOldWorkersTakeTooMuchMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, false)
		b.settings.MaxOldWorkersMemory = 1 << 30
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		b.start()
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.old, b.haproxy.memory = 1, 1<<30 })
		b.catalog.says("api", many(6)...)
		b.passes(10 * time.Minute)
		if got := b.since(b.began); len(got) != 0 {
			t.Fatalf("got reloads after %v, want none", got)
		}
		if n := b.log.count("reload delayed by old workers", "memory of old workers"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		if got := b.agent.State().HAProxy.OldWorkersMemory; got != 1<<30 {
			t.Errorf("the state has %d bytes, want 1 GiB", got)
		}
		b.haproxy.with(func() { b.haproxy.memory-- })
		b.eventually("the reload", 2*time.Second, func() bool { return len(b.haproxy.reloadTimes()) == 1 })
		b.haproxy.with(func() { b.haproxy.old = 0 })
		b.passes(time.Minute)
		if got := b.agent.State().HAProxy.OldWorkersMemory; got != 0 {
			t.Errorf("without old workers the state has %d bytes, want 0", got)
		}
	})
}

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

func TestReconfigureBringsInAServiceByAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.settings.Services = append(slices.Clone(b.settings.Services), policyOf("web"))
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s2", Settings: "g2"}}
		b.agent.Reconfigure(reconcile.Settings{Reconcile: time.Hour, Renderer: b.renderer}) // is not taken: a newer one comes at once
		b.agent.Reconfigure(b.settings)
		b.passes(5 * time.Second)
		b.wantTold("reload", "reload service_added: ok")
		if got := b.haproxy.shows("web_nodes"); !slices.Equal(got, []string{"web-1 10.0.0.9:4000 ready up"}) {
			t.Errorf("got %q, want web-1 up", got)
		}
		if got := b.agent.State().Services; len(got) != 2 || got[1].Name != "web" {
			t.Errorf("got %d services in the state, want api and web", len(got))
		}
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing: the file brought it all", got)
		}
	})
}

// A service that Consul does not answer for must not keep the others waiting.
func TestReload_FirstAnswerAboutAServiceIsLate_WaitsABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.settings.Services = append(slices.Clone(b.settings.Services), policyOf("web"))
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s2", Settings: "g2"}}
		b.agent.Reconfigure(b.settings)
		began := time.Now()
		b.passes(time.Minute)
		b.wantReloads(began, 10*time.Second)
	})
}

func TestReconfigureNeverBlocksAndTheNewestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		a, err := reconcile.New(reconcile.Options{Catalog: b.catalog, HAProxy: b.haproxy, File: b.file, Settings: b.settings})
		if err != nil {
			t.Fatal(err)
		}
		for _, every := range []time.Duration{time.Hour, 2 * time.Hour, time.Second} { // no reader takes them yet
			b.settings.Reconcile = every
			a.Reconfigure(b.settings)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = a.Run(ctx) }()
		b.passes(10500 * time.Millisecond)
		if n := len(b.haproxy.observations()); n < 10 || n > 13 {
			t.Errorf("got %d reads in ten seconds, want one in each", n)
		}
	})
}

// Any program that can register a load balancer changes the peers.
func TestReconfigure_NotByAnOperator_ReloadsKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		b.settings.Automatic, b.settings.ReloadInterval = true, 10*time.Second
		change := func(n int) {
			b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s1", Settings: fmt.Sprint("g", n)}}
			b.agent.Reconfigure(b.settings)
		}
		began := time.Now()
		for n := range 12 {
			change(2 + n)
			b.passes(2 * time.Second)
		}
		first := b.settings.ReloadDebounce
		b.wantReloads(began, first, first+b.settings.ReloadInterval, first+2*b.settings.ReloadInterval)

		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("cannot bind *:80") } })
		b.passes(time.Minute)
		began = time.Now()
		for n := range 30 {
			change(100 + n)
			b.passes(2 * time.Second)
		}
		if got := slices.DeleteFunc(b.since(began), func(d time.Duration) bool { return d < 0 }); len(got) > 4 {
			t.Errorf("got reloads after %v, want that they fail more and more rarely", got)
		}

		// An operator's settings count as theirs, also when others come before they are taken.
		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		began = time.Now()
		b.settings.Automatic = false
		change(200)
		b.settings.Automatic = true
		change(201)
		b.passes(b.settings.ReloadDebounce + 50*time.Millisecond)
		if got := b.since(began); got[len(got)-1] < 0 {
			t.Error("an operator's settings wait for the next reload")
		}
	})
}

func TestReconfigureTriesAtOnceWhatFailedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.haproxy.with(func() { b.haproxy.fail = func(plan.Step) error { return errors.New("no") } })
		b.file.with(func() { b.file.reject = func([]byte) error { return errors.New("disk full") } })
		b.catalog.says("api", many(2)...)
		b.passes(5 * time.Minute)
		b.haproxy.with(func() { b.haproxy.fail = nil })
		b.file.with(func() { b.file.reject = nil })
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.FileDelay + checkTime + 50*time.Millisecond)
		if got := len(b.haproxy.shows("api_nodes")); got != 2 {
			t.Errorf("got %d servers, want 2 at once", got)
		}
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
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

// A reload that old workers hold back is looked at each second, perhaps for hours. It
// has changed nothing, and what needs nothing is not read for it.
func TestReload_HeldBack_OtherBackendsAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, false, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		b.start()
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.old = b.settings.MaxOldWorkers })
		b.catalog.says("api", many(6)...)
		b.passes(time.Minute)
		before := len(b.haproxy.observations())
		b.passes(10 * time.Minute)
		n := 0
		for _, asked := range b.haproxy.observations()[before:] {
			if slices.Contains(asked, "web_nodes") {
				n++
			}
		}
		if most := int(10*time.Minute/b.settings.Reconcile) + 1; n > most {
			t.Errorf("web_nodes was read %d times in ten minutes, want by the %d comparisons only", n, most)
		}
		if f := b.agent.State().File; !f.Current || f.Pending {
			t.Errorf("got %+v, want a file that is current", f)
		}
	})
}

// The new worker begins to serve between a reading of the old one and the steps that
// were planned from it: they go to the new worker, which does not have the newcomers.
func TestReload_NewWorkerServesBetweenReadingAndSteps_KeepsItsServers(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, many(2)...)
		b.passes(time.Minute)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad, b.haproxy.lieLoad = hold, true })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.ReloadDebounce + time.Second) // the reload has begun

		content, _ := b.file.Read()
		left := func() (n int) {
			for _, s := range b.haproxy.backends["api_nodes"] {
				if s.tick(b.haproxy); s.Up && s.Admin == plan.Ready {
					n++
				}
			}
			return n
		}
		isNew := false
		b.haproxy.with(func() {
			b.haproxy.fail = func(s plan.Step) error {
				if s.Kind == plan.SetDrain && !isNew {
					isNew = true
					b.haproxy.load(content)
				}
				return nil
			}
		})
		b.catalog.says("api", instance("api-1", 1, leaving), instance("api-2", 2, leaving), instance("api-3", 3), instance("api-4", 4))
		for range 3000 {
			b.passes(time.Millisecond)
			b.haproxy.with(func() {
				if left() == 0 {
					t.Errorf("no server takes traffic: sent %q", b.haproxy.sent)
				}
			})
			if t.Failed() {
				break
			}
		}
		b.haproxy.with(func() {
			if !isNew { // it comes now
				isNew = true
				b.haproxy.load(content)
			}
		})
		close(hold)
		b.eventually("drained", 10*time.Second, func() bool { return b.drained("api-1") && b.drained("api-2") })
		b.haproxy.with(func() {
			if n := left(); n != 2 {
				t.Errorf("%d servers take traffic, want the two newcomers", n)
			}
		})
	})
}

// While a client waits for a drain, each change is written at once. A reload does not
// wait until the changes end.
func TestReload_FileIsWrittenAllTheTime_DoesNotWaitForMoreThanSettleMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, many(2)...)
		b.passes(time.Minute)
		b.file.with(func() {
			b.file.reject = func([]byte) error {
				time.Sleep(300 * time.Millisecond) // the check command takes long
				return nil
			}
		})
		b.agent.Attend(+1)
		defer b.agent.Attend(-1)
		began := time.Now()
		six := many(6) // more than there are slots
		for n := 1; time.Since(began) < 10*time.Second; n++ {
			six[0].Weight = n
			b.catalog.says("api", six...)
			b.passes(100 * time.Millisecond)
		}
		got := b.since(began)
		if most := b.settings.ReloadMaxDelay + time.Second; len(got) == 0 || got[0] > most {
			t.Errorf("got reloads after %v, want one within %s", got, most)
		}
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

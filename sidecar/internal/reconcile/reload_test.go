package reconcile_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// many returns instances api-1 to api-n.
func many(n int) (out []catalog.Instance) {
	for k := range n {
		out = append(out, instance(fmt.Sprintf("api-%d", k+1), k+1))
	}
	return out
}

// since returns the times of the reloads, from a moment on.
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
		is := b.agent.State().Reloads
		if is.Pending != "slots_exhausted" || is.WaitsFor != "old workers" || is.UnderWay {
			t.Errorf("the state has %+v, want that slots_exhausted waits for old workers", is)
		}
		if in := time.Until(is.NotBefore); in < 0 || in > 2*time.Second {
			t.Errorf("the state has the reload in %s, want when they are counted again", in)
		}
		if got := b.agent.State().Verdict().Reasons; !slices.ContainsFunc(got, func(f reconcile.Finding) bool {
			return f.Text == "reload due: slots_exhausted, waits for old workers"
		}) {
			t.Errorf("the verdict has %+v", got)
		}
		// What needs no reload goes on: four slots are all that there is.
		if got := len(b.haproxy.shows("api_nodes")); got != 4 {
			t.Errorf("got %d servers, want 4", got)
		}
		b.wantTold("applied") // two instances wait
		b.haproxy.with(func() { b.haproxy.old-- })
		b.eventually("the reload", 2*time.Second, func() bool { return len(b.haproxy.reloadTimes()) == 1 })
		b.eventually("it is applied", time.Second, func() bool { return len(b.recorder.told("applied")) == 1 })
		if is := b.agent.State().Reloads; is.Pending+is.WaitsFor != "" || !is.NotBefore.IsZero() {
			t.Errorf("after it the state has %+v", is)
		}
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

// On 2.6 a reload for slots reads a large file for seconds, in which HAProxy's master
// does not count the sessions of old workers. A node that leaves would wait for that.
func TestReload_SlotsExhaustedWhileDrainIsCounted_ComesAfterTheCount(t *testing.T) {
	for _, c := range []struct {
		name    string
		counted time.Duration // from when on
		want    time.Duration // when the reload begins
	}{
		{"counted soon", 500 * time.Millisecond, 750 * time.Millisecond},   // the next look, and ReloadDebounce
		{"never counted", time.Minute, time.Second + 200*time.Millisecond}, // ReloadDebounce more
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, false, "api", "web")
				b.catalog.says("api", instance("api-1", 1))
				b.catalog.says("web", instance("web-1", 101), instance("web-2", 102))
				b.adoptable()
				b.start()
				b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
				b.passes(time.Minute)
				uncounted := func(is bool) {
					b.haproxy.with(func() {
						s := b.haproxy.server("web_nodes", "slot-2")
						if s.Uncounted, s.Sessions = is, 0; is {
							s.Sessions = 1
						}
					})
				}
				uncounted(true)
				b.catalog.says("web", instance("web-1", 101), instance("web-2", 102, leaving))
				b.passes(100 * time.Millisecond)
				began := time.Now()
				b.catalog.says("api", many(6)...) // 4 slots
				b.passes(c.counted)
				uncounted(false)
				b.passes(5 * time.Second)
				b.wantReloads(began, c.want)
			})
		})
	}
}

// What has happened while a reload waited is looked at just before it begins: another program
// has brought what is wanted, or the newest settings want none.
func TestReload_NotNeededAnyMore_DoesNotBegin(t *testing.T) {
	other := &fakeRenderer{marker: plan.Marker{Template: "t", Services: "other", Settings: "s"}}
	for name, happens := range map[string]func(b *bench){
		"another program has reloaded": func(b *bench) {
			b.passes(b.settings.ReloadDebounce - 10*time.Millisecond)
			content, err := other.Render([]plan.FileBackend{{Service: "api", Backend: "api_nodes", Known: true, Servers: []plan.FileServer{{Name: "api-1", Addr: instance("api-1", 1).Addr, Weight: 1}}}})
			if err != nil {
				b.t.Fatal(err)
			}
			b.haproxy.startWith(content)
		},
		"settings come while HAProxy is read": func(b *bench) {
			b.haproxy.with(func() { b.haproxy.observeTakes = 100 * time.Millisecond })
			b.passes(b.settings.ReloadDebounce + 150*time.Millisecond) // it was read once before, and now again
			b.settings.Renderer = b.renderer
			b.agent.Reconfigure(b.settings)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := serving(t, true, instance("api-1", 1))
				b.passes(time.Minute)
				began := time.Now()
				b.settings.Renderer = other
				b.agent.Reconfigure(b.settings)
				happens(b)
				b.passes(10 * time.Second)
				b.wantReloads(began)
			})
		})
	}
}

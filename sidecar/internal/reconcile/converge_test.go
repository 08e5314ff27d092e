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

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestANewInstanceIsServedAndTheFileHasIt(t *testing.T) {
	want := map[bool][]string{
		false: {"slot-1 10.0.0.1:4000 ready up", "slot-2 10.0.0.2:4000 ready up"},
		true:  {"api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up"},
	}
	steps := map[bool][]string{false: {"addr slot-2", "ready slot-2"}, true: {"add api-2"}}
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1))
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.runs(time.Second, want[dynamic]...)
		if diff := cmp.Diff(steps[dynamic], b.haproxy.steps()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		b.eventually("the file has it", time.Second, func() bool {
			servers, _ := b.file.shows("api_nodes")
			return len(servers) == 2
		})
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
	})
}

func TestALeavingInstanceGoesInOrderAndNothingIsLeftOfIt(t *testing.T) {
	steps := map[bool][]string{
		false: {"drain slot-2", "maint slot-2"},
		true:  {"drain api-2", "maint api-2", "delete api-2"},
	}
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1), instance("api-2", 2))
		name := map[bool]string{false: "slot-2", true: "api-2"}[dynamic]
		b.haproxy.with(func() { b.haproxy.server("api_nodes", name).Sessions = 1 })
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving))
		b.passes(5 * time.Second)
		if got := b.haproxy.steps(); len(got) != 1 {
			t.Fatalf("with a session left: sent %q, want a drain only", got)
		}
		b.haproxy.with(func() { b.haproxy.server("api_nodes", name).Sessions = 0 })
		b.catalog.says("api", instance("api-1", 1))
		b.eventually("it is gone", 3*time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == 1 })
		b.passes(time.Second)
		if diff := cmp.Diff(steps[dynamic], b.haproxy.steps()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
}

func TestAnHAProxyThatMatchesIsAdoptedWithoutACommand(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1), instance("api-2", 2))
		b.passes(5 * time.Minute)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
		if n := b.file.writes(); n != 0 {
			t.Errorf("got %d writes of haproxy.cfg, want none", n)
		}
	})
}

func TestAnUnknownServiceIsLeftAlone(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		b.catalog.answers(catalog.Service{Name: "api"})
		b.start()
		b.passes(time.Hour)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		if s := b.agent.State(); s.Ready || s.NotReady != "waiting for Consul's first answer for every service" {
			t.Errorf("got ready %v, %q, want not, for Consul", s.Ready, s.NotReady)
		}
	})
}

// Since 2.9 an address is there only some time after HAProxy said so, and of
// two that meet the later may be lost (docs/haproxy-facts.md, facts 1 and 2).
func TestAnAddressThatShowsLateEndsRight(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(delay.String(), inTime(func(t *testing.T) {
			b := serving(t, true, instance("api-1", 1))
			b.haproxy.with(func() { b.haproxy.addrDelay = delay })
			b.catalog.says("api", instance("api-1", 2))
			b.runs(15*time.Second, "api-1 10.0.0.2:4000 ready up")
			within := 15 * time.Second
			if delay <= 30*time.Millisecond {
				within = 30 * time.Millisecond // it is looked for as long as it may well come
			}
			b.eventually("it is seen", within, func() bool { return len(b.recorder.told("applied")) == 1 })
			if n := b.log.count("server addr"); n != 1 {
				t.Errorf("got %d lines, want one for a transition:\n%s", n, b.log)
			}
		}))
	}
}

func TestAnAddressThatGoesThereAndBackEndsRight(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(delay.String(), inTime(func(t *testing.T) {
			b := serving(t, true, instance("api-1", 1))
			b.haproxy.with(func() { b.haproxy.addrDelay = delay })
			b.catalog.says("api", instance("api-1", 2))
			b.passes(delay / 2)
			b.catalog.says("api", instance("api-1", 1))
			b.passes(40 * time.Second) // the next time that all is compared at the latest
			if got, want := b.haproxy.shows("api_nodes"), []string{"api-1 10.0.0.1:4000 ready up"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}))
	}
}

// One slot is free, so each instance is replaced after the one before it, in more steps than
// one pass takes: none of them has failed, and none waits.
func TestConverge_ManyAreReplacedByWayOfOneSlot_NoneWaitsForATry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 12
		b := newBench(t, false, "api", "web")
		b.settings.Services[0].Checked, b.settings.Services[0].MaxLossRatio = false, 1
		var before, after []catalog.Instance
		for i := range n {
			before = append(before, instance(fmt.Sprintf("old-%02d", i), 1+i))
			after = append(after, instance(fmt.Sprintf("new-%02d", i), 101+i))
		}
		b.catalog.says("api", before...)
		b.catalog.says("web", instance("web-1", 201))
		b.adoptable()
		b.haproxy.with(func() {
			for _, s := range b.haproxy.backends["api_nodes"][n+1:] {
				s.Sessions = 1 // all but one of the free slots are in use
			}
		})
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		// A step of another service keeps failing, and is tried again ever later.
		b.haproxy.with(func() {
			b.haproxy.fail = func(st plan.Step) error {
				if st.Backend == "web_nodes" {
					return errors.New("internal error")
				}
				return nil
			}
		})
		b.catalog.says("web", instance("web-1", 201, func(i *catalog.Instance) { i.Weight = 9 }))
		b.passes(time.Minute)
		b.catalog.says("api", after...)
		b.eventually("all are replaced", 80*time.Millisecond, func() bool {
			ready := slices.DeleteFunc(b.haproxy.shows("api_nodes"), func(s string) bool { return !strings.HasSuffix(s, "ready up") })
			return len(ready) == n && !slices.ContainsFunc(ready, func(s string) bool { return !strings.Contains(s, " 10.0.0.1") })
		})
	})
}

// Another program undoes one change when the next is made, and so on: what comes again waits.
func TestConverge_AnotherProgramUndoesEachStep_TriedAgainEverMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("a", 1), instance("b", 2))
		b.passes(time.Minute)
		applies := 0
		undo := func() { b.haproxy.server("api_nodes", []string{"a", "b"}[applies%2]).Weight = 7 }
		b.haproxy.with(func() {
			b.haproxy.onApply = func(context.Context) {
				applies++
				b.haproxy.with(undo)
			}
			undo()
		})
		b.passes(b.settings.Reconcile + time.Minute)
		if applies == 0 || applies > 500 {
			t.Errorf("%d times in a minute, want some, and not hundreds", applies)
		}
	})
}

func TestDrift_ChangeByAnotherProgram_IsCorrectedOnTheNextReconcileAndCounted(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1), instance("api-2", 2))
		name := map[bool]string{false: "slot-2", true: "api-2"}[dynamic]
		b.haproxy.with(func() {
			s := b.haproxy.server("api_nodes", name)
			s.Admin, s.Weight = plan.Maint, 7
		})
		b.passes(b.settings.Reconcile + time.Second)
		b.wantTold("step", fmt.Sprintf("step api weight %s: drift: ok", name), fmt.Sprintf("step api ready %s: drift: ok", name))
		if n := b.log.count("[WARN]", "drift corrected", name); n != 2 {
			t.Errorf("got %d warnings, want 2:\n%s", n, b.log)
		}
		if n := b.file.writes(); n != 0 {
			t.Errorf("got %d writes of haproxy.cfg, want none: it was right all the time", n)
		}
	})
}

func TestDrift_SidecarsOwnStepWhileAnotherServerDrains_IsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2))
		b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Sessions = 1 })
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving), instance("api-3", 3))
		b.passes(2 * time.Second)
		b.catalog.says("api", instance("api-1", 11), instance("api-2", 2, leaving), instance("api-3", 3))
		b.runs(5*time.Second, "api-1 10.0.0.11:4000 ready up", "api-2 10.0.0.2:4000 drain up", "api-3 10.0.0.3:4000 ready up")
		b.catalog.says("api", instance("api-2", 2, leaving), instance("api-3", 3))
		b.passes(2 * time.Second)
		want := []string{"step api drain api-1: deregistered: ok"}
		if got := b.recorder.told("step api drain api-1"); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestAChangeIsRecordedOnceAndTheFirstAnswerIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(2 * time.Minute)
		b.wantTold("applied")
		b.haproxy.with(func() { b.haproxy.onApply = func(context.Context) { time.Sleep(7 * time.Millisecond) } })
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(2 * time.Minute)
		b.wantTold("applied", "applied api after 7ms")
	})
}

// The answer that comes while an older one is applied is not applied yet.
func TestAChangeThatComesWhileAnotherIsAppliedIsRecordedWhenItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		n := 0
		b.haproxy.with(func() {
			b.haproxy.onApply = func(context.Context) {
				time.Sleep(10 * time.Millisecond)
				if n++; n == 1 {
					b.catalog.says("api", instance("api-1", 1), instance("api-2", 2), instance("api-3", 3))
				}
			}
		})
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Minute)
		for _, line := range b.recorder.told("applied") {
			if line == "applied api after 0s" {
				t.Errorf("recorded %q, want nothing of a change before HAProxy runs it", line)
			}
		}
		if got := b.recorder.told("applied"); got[len(got)-1] != "applied api after 10ms" {
			t.Errorf("got %q, want the last change recorded when it was done, after 10 ms", got)
		}
	})
}

func TestABackendThatRefusesToAddServersUsesSlotsFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.haproxy.with(func() {
			b.haproxy.fail = func(s plan.Step) error {
				if s.Kind == plan.Add {
					return fmt.Errorf("add: %w", plan.ErrRefused)
				}
				return nil
			}
		})
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.runs(5*time.Second, "api-1 10.0.0.1:4000 ready up", "slot-1 10.0.0.2:4000 ready up")
		b.passes(time.Minute)
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2), instance("api-3", 3))
		b.runs(5*time.Second, "api-1 10.0.0.1:4000 ready up", "slot-1 10.0.0.2:4000 ready up", "slot-2 10.0.0.3:4000 ready up")
		b.wantTold("reload", "reload slots_exhausted: ok")
		for _, s := range b.haproxy.steps() {
			if strings.HasPrefix(s, "delete") {
				t.Errorf("sent %q, want the slots kept for new instances", s)
			}
		}
		// Another sidecar finds that out again, and gives away no slot for it.
		sent := len(b.haproxy.steps())
		b.stop()
		b.start()
		b.passes(time.Minute)
		if got := b.haproxy.steps()[sent:]; len(got) != 0 {
			t.Errorf("a new sidecar sent %q, want nothing", got)
		}
		// With other settings it may take them again.
		b.haproxy.with(func() { b.haproxy.fail = nil })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s1", Settings: "g2"}}
		b.agent.Reconfigure(b.settings)
		b.passes(time.Minute)
		b.catalog.says("api", many(4)...)
		b.runs(5*time.Second, "api-1 10.0.0.1:4000 ready up", "api-4 10.0.0.4:4000 ready up", "slot-1 10.0.0.2:4000 ready up", "slot-2 10.0.0.3:4000 ready up")
	})
}

func TestAnHAProxyThatCannotBeReadIsLeftAloneAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.haproxy.with(func() { b.haproxy.unread = errors.New("permission denied") })
		b.passes(b.settings.Reconcile) // it is noticed
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(5 * time.Minute)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		if n := b.log.count("HAProxy state read failed", "permission denied"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		if s := b.agent.State().HAProxy; s.Running || s.Error != "permission denied" {
			t.Errorf("got %+v, want not running, for permission denied", s)
		}
		b.haproxy.with(func() { b.haproxy.unread = nil })
		b.eventually("it is served", 15*time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == 2 })
		if n := b.log.count("HAProxy connected"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
	})
}

func TestRunEndsWithItsContextAndChangesNothingOnItsWayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		writes := b.file.writes()
		cancel := b.cancel
		b.haproxy.with(func() {
			b.haproxy.onApply = func(ctx context.Context) {
				cancel()
				<-ctx.Done()
			}
		})
		// Both a step and, with six instances, a reload would be due.
		all := []catalog.Instance{instance("api-1", 1)}
		for n := 2; n <= 6; n++ {
			all = append(all, instance(fmt.Sprintf("api-%d", n), n))
		}
		b.haproxy.with(func() { b.haproxy.fail = func(plan.Step) error { return context.Canceled } })
		b.catalog.says("api", all...)
		b.passes(time.Minute)
		b.stop()
		if got := len(b.haproxy.steps()); got > 3 {
			t.Errorf("sent %q, want nothing more after the end", b.haproxy.steps())
		}
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
		if n := b.file.writes() - writes; n != 0 {
			t.Errorf("got %d writes of haproxy.cfg, want none", n)
		}
	})
}

func TestRunEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		began := time.Now()
		b.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("got %s, want at once", took)
		}
	})
}

// A large service takes a while to read. What a change certainly takes is sent before,
// and read back; what depends on who is up now waits for the reading.
func TestAnticipate_ReadingTakesLong_CertainStepsGoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.observeTakes = 5 * time.Second })
		after := func(d time.Duration, change func(all []catalog.Instance) []catalog.Instance) []string {
			sent := len(b.haproxy.steps())
			b.catalog.says("api", change(many(3))...)
			b.passes(d)
			got := b.haproxy.steps()[sent:]
			b.passes(time.Minute)
			return got
		}
		heavier := func(i *catalog.Instance) { i.Weight = 7 }
		for _, tt := range []struct {
			name   string
			change func(all []catalog.Instance) []catalog.Instance
			want   []string
		}{
			{"weight", func(all []catalog.Instance) []catalog.Instance { heavier(&all[0]); return all }, []string{"weight api-1"}},
			{"one more", func(all []catalog.Instance) []catalog.Instance {
				heavier(&all[0])
				return append(all, instance("api-4", 4))
			}, []string{"add api-4"}},
			{"one leaves and one is heavier", func(all []catalog.Instance) []catalog.Instance {
				heavier(&all[1])
				leaving(&all[2])
				return all
			}, nil},
			{"weight 0", func(all []catalog.Instance) []catalog.Instance { all[0].Weight = 0; return all }, nil},
		} {
			if got := after(10*time.Millisecond, tt.change); !slices.Equal(got, tt.want) {
				t.Errorf("%s: sent %q before HAProxy was read, want %q", tt.name, got, tt.want)
			}
		}
		b.catalog.says("api", many(3)...)
		b.runs(2*time.Minute, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up")
	})
}

// A server that goes because its instance has another one now is not called someone
// else's doing at the end, nor lost.
func TestServerOfAnInstanceThatHasBecomeABackupHasMoved(t *testing.T) {
	inTime(func(t *testing.T) {
		b := serving(t, true, instance("a", 1))
		b.catalog.says("api", instance("a", 1, func(i *catalog.Instance) { i.Backup = true }))
		b.passes(time.Minute)
		b.wantTold("step api delete", "step api delete a: moved: ok")
	})(t)
}

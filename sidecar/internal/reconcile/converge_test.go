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

// lessons.md, bugs 1 and 2: what failed is not done, and nothing but HAProxy
// itself says that it is.
func TestAFailedStepIsTriedAgainThoughNothingChanges(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1))
		broken := true
		b.haproxy.with(func() {
			b.haproxy.fail = func(plan.Step) error {
				if broken {
					return errors.New("internal error")
				}
				return nil
			}
		})
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Minute)
		b.wantTold("applied")
		if got := b.recorder.told("step"); len(got) == 0 || !strings.HasSuffix(got[0], ": internal error") {
			t.Errorf("got %q, want each try recorded with its error", got)
		}
		b.haproxy.with(func() { broken = false })
		b.eventually("it is served", 15*time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == 2 })
		b.eventually("it is recorded", time.Second, func() bool { return len(b.recorder.told("applied")) == 1 })
	})
}

func TestAStepThatHAProxyTookAndDidNotTakeIsTriedAgain(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1))
		lost := true
		b.haproxy.with(func() { b.haproxy.swallow = func(plan.Step) bool { return lost } })
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Minute)
		b.wantTold("applied")
		if n := b.log.count("server a", "api_nodes"); n != 1 {
			t.Errorf("got %d lines, want one for a transition:\n%s", n, b.log)
		}
		b.haproxy.with(func() { lost = false })
		b.eventually("it is served", 15*time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == 2 })
		b.eventually("it is recorded", time.Second, func() bool { return len(b.recorder.told("applied")) == 1 })
	})
}

func TestAFailingStepIsRetriedWithGrowingWaitsAndLoggedOncePerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.jitter = func(bound time.Duration) time.Duration { return bound / 2 }
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		b.start()
		b.passes(time.Second)
		words := "first words"
		var tries []time.Time
		b.haproxy.with(func() {
			b.haproxy.fail = func(plan.Step) error {
				if n := len(tries); n == 0 || time.Since(tries[n-1]) > 45*time.Millisecond {
					tries = append(tries, time.Now()) // of one pass only the first
				}
				return errors.New(words)
			}
		})
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(10 * time.Minute)
		var early, late time.Duration
		b.haproxy.with(func() {
			if len(tries) < 20 {
				t.Fatalf("got %d tries in ten minutes, want it to go on", len(tries))
			}
			early, late = tries[3].Sub(tries[0])/3, tries[len(tries)-1].Sub(tries[len(tries)-11])/10
		})
		if early > time.Second || late < time.Second || late > 11*time.Second {
			t.Errorf("got %s between the first tries and %s between the last, want some 100 ms and some seconds", early, late)
		}
		if n := b.log.count("failed, will be tried again"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		b.haproxy.with(func() { words = "other words" })
		b.passes(time.Minute)
		if n := b.log.count("failed, will be tried again"); n != 2 {
			t.Errorf("after other words: got %d lines, want 2:\n%s", n, b.log)
		}
		b.haproxy.with(func() { b.haproxy.fail = nil })
		b.passes(time.Minute)
		if n := b.log.count("all changes applied"); n != 1 {
			t.Errorf("got %d lines at the end of it, want 1:\n%s", n, b.log)
		}
	})
}

func TestAFailingStepIsRetriedThoughOtherChangesComeAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		broken := true
		b.haproxy.with(func() {
			b.haproxy.fail = func(s plan.Step) error {
				if s.Server == "api-2" && broken {
					return errors.New("no")
				}
				return nil
			}
		})
		heavier := func(n int) func(*catalog.Instance) {
			return func(i *catalog.Instance) { i.Weight = 1 + n%2 }
		}
		for n := range 1200 { // a minute
			b.catalog.says("api", instance("api-1", 1, heavier(n)), instance("api-2", 2))
			b.passes(50 * time.Millisecond)
			if n == 800 {
				b.haproxy.with(func() { broken = false })
			}
		}
		if got := b.haproxy.shows("api_nodes"); len(got) != 2 {
			t.Errorf("got %q twenty seconds after it was corrected, want api-2 too", got)
		}
	})
}

// A drain that goes on for long is looked at often; what fails beside it is not
// sent as often for that.
func TestAFailingStepIsNotRetriedFasterBecauseSomethingElseIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2))
		b.haproxy.with(func() {
			b.haproxy.server("api_nodes", "api-2").Sessions = 1
			b.haproxy.fail = func(s plan.Step) error {
				if s.Kind == plan.Add {
					return errors.New("no room")
				}
				return nil
			}
		})
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving), instance("api-3", 3))
		b.passes(25 * time.Second)
		tries := 0
		for _, s := range b.haproxy.steps() {
			if strings.HasPrefix(s, "add") {
				tries++
			}
		}
		if tries > 120 {
			t.Errorf("got %d tries in 25 s, want them to grow rare", tries)
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

func TestOnlyTheBackendOfTheServiceThatChangedIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		b.start()
		b.passes(time.Second)
		before := len(b.haproxy.observations())
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Second)
		for _, read := range b.haproxy.observations()[before:] {
			if !slices.Equal(read, []string{"api_nodes"}) {
				t.Errorf("read %q, want api_nodes only", read)
			}
		}
		// All of it is, from time to time.
		before = len(b.haproxy.observations())
		b.passes(b.settings.Reconcile)
		if got, want := b.haproxy.observations()[before:], [][]string{{"api_nodes", "web_nodes"}}; cmp.Diff(want, got) != "" {
			t.Errorf("read %q, want %q", got, want)
		}
	})
}

// Another process may have loaded an older file: one look at it is enough to
// compare all of it, and the differences are no drift.
func TestAnHAProxyThatWasRestartedIsComparedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		old, _ := b.file.Read()
		b.start()
		b.passes(time.Second)
		b.catalog.says("web", instance("web-1", 9, func(i *catalog.Instance) { i.Weight = 5 }), instance("web-2", 10))
		b.passes(time.Second)
		b.haproxy.startWith(old)
		b.catalog.says("api", many(2)...)
		b.passes(time.Second)
		if got := b.haproxy.shows("web_nodes"); len(got) != 2 {
			t.Errorf("got %q a second later, want web-2 again", got)
		}
		b.wantTold("step web weight", "step web weight web-1: reweighted: ok", "step web weight web-1: reweighted: ok")
	})
}

// A server that is down for hours is no reason to read a backend of thousands
// twenty times a second.
func TestWhatTakesLongIsLookedAtLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1), instance("api-2", 2))
		b.haproxy.with(func() { b.haproxy.nodes[addr(2)] = false })
		b.passes(b.settings.Reconcile) // it is seen
		b.passes(10 * time.Minute)
		before := len(b.haproxy.observations())
		b.passes(10 * time.Minute)
		if n := len(b.haproxy.observations()) - before; n > 600+3*20 { // a comparison looks at the file as well
			t.Errorf("got %d reads in ten minutes, want one in a second at most, and three for each comparison", n)
		}
		// One that has just begun to come up is looked at often.
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2), instance("api-3", 3))
		before = len(b.haproxy.observations())
		b.passes(checkTime + 60*time.Millisecond)
		if n := len(b.haproxy.observations()) - before; n < 3 {
			t.Errorf("got %d reads while a server comes up, want some", n)
		}
	})
}

func TestSessionsThatComeAndGoAreNoReasonToLookMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		b.haproxy.with(func() {
			s := b.haproxy.server("api_nodes", "api-2")
			s.Admin, s.Sessions = plan.Maint, 50
		})
		b.catalog.says("api", instance("api-1", 1)) // it may be deleted once they have ended
		b.passes(time.Minute)
		before := len(b.haproxy.observations())
		for n := range 120 {
			b.passes(500 * time.Millisecond)
			b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Sessions = 1 + n%50 })
		}
		if n := len(b.haproxy.observations()) - before; n > 70 {
			t.Errorf("got %d reads in a minute, want one in a second at most", n)
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

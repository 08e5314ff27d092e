package reconcile_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

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

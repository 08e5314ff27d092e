package reconcile_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// manyInstances is an answer of Consul with more instances than a byte can number.
func manyInstances(count int) []catalog.Instance {
	all := make([]catalog.Instance, 0, count)
	for n := range count {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n / 250), byte(n % 250)}), 4000)
		all = append(all, instance(fmt.Sprintf("api-%05d", n), 0, func(i *catalog.Instance) { i.Addr = at }))
	}
	return all
}

// timeSteps collects when steps for a backend reach HAProxy, which takes some time for
// each batch. It returns the number of each batch, and when it came.
func (b *bench) timeSteps(backend string) (batches func() (counts []int, at []time.Time)) {
	var counts []int
	var times []time.Time
	b.haproxy.with(func() {
		b.haproxy.onApply = func(context.Context) { time.Sleep(20 * time.Millisecond) }
		b.haproxy.fail = func(s plan.Step) error {
			now := time.Now()
			switch {
			case s.Backend != backend:
			case len(times) == 0 || !times[len(times)-1].Equal(now):
				counts, times = append(counts, 1), append(times, now)
			default:
				counts[len(counts)-1]++
			}
			return nil
		}
	})
	return func() (c []int, at []time.Time) {
		b.haproxy.with(func() { c, at = slices.Clone(counts), slices.Clone(times) })
		return c, at
	}
}

// With the sizes that the program has: a service of 150 instances is changed at once,
// because turns cost a pass each. One of 1,500 leaves room for the others after some
// hundred steps at most, and has some dozens in each turn.
func TestTurns_SizesOfTheProgram_BoundHowLongOthersWait(t *testing.T) {
	for _, c := range []struct{ instances, least, most int }{
		{150, 150, 150},
		{600, 64, 400},
		{1500, 64, 400},
	} {
		t.Run(fmt.Sprint(c.instances), inTime(func(t *testing.T) {
			b := newBench(t, true, "api", "web")
			b.catalog.says("api")
			b.catalog.says("web", instance("web-1", 101))
			b.adoptable()
			b.start()
			b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
			batches := b.timeSteps("api_nodes")
			b.catalog.says("api", manyInstances(c.instances)...)
			b.eventually("all have a server", time.Minute, func() bool { return len(b.haproxy.shows("api_nodes")) == c.instances })
			counts, _ := batches()
			if first, most := counts[0], slices.Max(counts); first < c.least || most > c.most {
				t.Errorf("%d instances came in batches of %v, want %d at least in the first and %d at most in one", c.instances, counts, c.least, c.most)
			}
		}))
	}
}

// Small services that change all the time go first for several passes, but do not keep a
// large one from its turns: it has one within half a second, until all is done.
func TestTurns_OthersChangeAllTheTime_LargeServiceHasItsTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		batches := b.timeSteps("api_nodes")
		b.catalog.says("api", flood()...)
		n := 0
		b.haproxy.with(func() {
			b.haproxy.onApply = func(context.Context) { // each pass has the next change
				n++
				b.catalog.says("web", instance("web-1", 101), instance("web-2", 102+n%2))
				time.Sleep(20 * time.Millisecond)
			}
		})
		b.eventually("the large service has all its servers", 20*time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == floodSize })
		_, at := batches()
		var longest, all time.Duration
		for n := range at[1:] {
			waited := at[n+1].Sub(at[n])
			longest, all = max(longest, waited), all+waited
		}
		if mean := all / time.Duration(len(at)-1); mean < 150*time.Millisecond || longest > 500*time.Millisecond {
			t.Errorf("between its turns were %s on average and %s at most, want 150ms at least and 500ms at most", mean, longest)
		}
	})
}

// A step that HAProxy takes without an effect is tried again ever more slowly, and the
// loop does not spin over it.
func TestTurns_StepOfLargeServiceHasNoEffect_TriedAgainEverMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		tries := 0
		b.haproxy.with(func() {
			b.haproxy.swallow = func(s plan.Step) bool {
				if s.Server != "flood-60" {
					return false
				}
				tries++
				return true
			}
		})
		b.catalog.says("api", flood()...)
		b.eventually("all others are there", time.Minute, func() bool { return len(b.haproxy.shows("api_nodes")) == floodSize-1 })
		b.passes(time.Minute)
		n := 0
		b.haproxy.with(func() { n = tries })
		if n < 5 || n > 60 {
			t.Errorf("a step without effect was sent %d times in a minute, want 5 to 60", n)
		}
	})
}

// A large service that only waits for a session is read for a fourth of the time at most,
// however long a look at HAProxy takes, and every few seconds at least.
func TestTurns_LargeServiceWaitsForSession_ReadForAFourthOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const look, during = 100 * time.Millisecond, 20 * time.Second
		b := flooded(t, true)
		b.afterFlood()
		b.haproxy.with(func() {
			b.haproxy.server("api_nodes", "api-2").Sessions = 1
			b.haproxy.observeTakes = look
		})
		b.catalog.says("api", flood(leaving)...)
		b.passes(3 * time.Second)
		looks := func() (n int) {
			b.haproxy.with(func() {
				for _, backends := range b.haproxy.observed {
					if slices.Contains(backends, "api_nodes") {
						n++
					}
				}
			})
			return n
		}
		before := looks()
		b.passes(during)
		if n := looks() - before; n < 4 || time.Duration(n)*look > during/4 {
			t.Errorf("it was read %d times in %s, each for %s, want a fourth of the time at most, and 4 times at least", n, during, look)
		}
	})
}

// Between two turns the state shows a large service as it was planned: the index of an
// answer together with its instances.
func TestTurns_AnswerBetweenTurns_StateHasNoIndexBeforeItsInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		b.afterFlood()
		newest := b.catalog.Snapshot().Service("api_nodes").Index + 1
		early, states := 0, 0
		b.recorder.with(func() {
			b.recorder.onState = func(s *reconcile.State) {
				for i := range s.Services {
					svc := &s.Services[i]
					isListed := slices.ContainsFunc(svc.Instances, func(i reconcile.InstanceState) bool { return i.ID == "late" })
					switch {
					case svc.Name != "api":
					case svc.Index >= newest && !isListed:
						early++
					case svc.Index < newest:
						states++
					}
				}
			}
		})
		b.catalog.answers(
			catalog.Service{Name: "api", Known: true, Instances: append(flood(), instance("late", 99))},
			catalog.Service{Name: "web", Known: true, Instances: []catalog.Instance{instance("web-1", 101)}},
		)
		b.eventually("the new one is there", 5*time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == floodSize+1 })
		if early > 0 || states == 0 {
			t.Errorf("%d states had the index of an answer without its instance, and %d the index of before, want none and some", early, states)
		}
	})
}

package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

const (
	floodLarge = 8  // instances that make a service large
	floodBatch = 4  // steps that one turn sends of a side
	floodSize  = 60 // instances
)

// flooded is a bench of api and web. What HAProxy takes is slow, so that a flood of
// api lasts for seconds.
func flooded(t *testing.T, dynamic bool) *bench {
	b := newBench(t, dynamic, "api", "web")
	b.large, b.turnSteps = floodLarge, floodBatch
	for i := range b.settings.Services {
		b.settings.Services[i].Slots = floodSize + 10
	}
	b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
	b.catalog.says("web", instance("web-1", 101), instance("web-2", 102))
	b.adoptable()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	b.haproxy.with(func() { b.haproxy.onApply = func(context.Context) { time.Sleep(20 * time.Millisecond) } })
	return b
}

// flood is what Consul says of api in it.
func flood(change ...func(*catalog.Instance)) []catalog.Instance {
	all := []catalog.Instance{instance("api-1", 1), instance("api-2", 2, change...)}
	for n := 3; n <= floodSize; n++ {
		all = append(all, instance(fmt.Sprintf("flood-%02d", n), n))
	}
	return all
}

// stepsOf is how many steps of a service were sent.
func (b *bench) stepsOf(service string) int { return len(b.recorder.told("step " + service + " ")) }

// duringFlood has something happen while the first batch of the flood is under way,
// so that none of its steps has been sent.
func (b *bench) duringFlood(happens func()) {
	b.t.Helper()
	began := make(chan struct{})
	once := sync.OnceFunc(func() { happens(); close(began) })
	b.haproxy.with(func() {
		b.haproxy.onApply = func(context.Context) {
			once()
			time.Sleep(20 * time.Millisecond)
		}
	})
	b.catalog.says("api", flood()...)
	<-began
}

// stepsBefore is how many steps of api were sent before the first of that kind.
func (b *bench) stepsBefore(first string) (n int) {
	for _, step := range b.recorder.told("step ") {
		switch {
		case strings.HasPrefix(step, "step "+first):
			return n
		case strings.HasPrefix(step, "step api "):
			n++
		}
	}
	b.t.Errorf("no step of %s was sent", first)
	return n
}

// After issue 14: one service's flood held up the others until all of it was done.
func TestTurns_FloodOfOneService_AnotherServicesChangeComesAfterOneBatch(t *testing.T) {
	for name, change := range map[string][]catalog.Instance{
		"a new instance":     {instance("web-1", 101), instance("web-2", 102), instance("web-3", 103)},
		"a leaving instance": {instance("web-1", 101), instance("web-2", 102, leaving)},
		"a removal":          {instance("web-1", 101)},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, dynamic bool) {
				b := flooded(t, dynamic)
				b.duringFlood(func() { b.catalog.says("web", change...) })
				b.eventually("the other service is changed", 5*time.Second, func() bool { return b.stepsOf("web") > 0 })
				if n := b.stepsBefore("web"); n > 2*floodBatch { // the one under way, and one more
					t.Errorf("%d steps of the flood came before the other service's first, want %d at most", n, 2*floodBatch)
				}
				b.eventually("the flood is done", time.Minute, func() bool {
					return len(b.haproxy.shows("api_nodes")) == floodSize && b.agent.State().Behind.Changes == 0
				})
			})
		})
	}
}

// afterFlood waits until the flood is done and all rests.
func (b *bench) afterFlood() {
	b.t.Helper()
	b.catalog.says("api", flood()...)
	b.eventually("the flood is done", time.Minute, func() bool {
		return len(b.haproxy.shows("api_nodes")) == floodSize && b.agent.State().Behind.Changes == 0
	})
	b.passes(10 * time.Second)
}

// A large service that has no turn is planned with Consul's answer of its last one. In the
// worker of another program's reload that would undo what has happened since.
func TestTurns_ReloadByAnotherProgramBetweenTurns_PlannedWithConsulsNewestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		b.afterFlood()
		content, err := b.file.Read()
		if err != nil {
			t.Fatal(err)
		}
		var loaded fakeContent
		if err := json.Unmarshal(content, &loaded); err != nil {
			t.Fatal(err)
		}
		for _, f := range loaded.Backends {
			for i := range f.Servers {
				f.Servers[i].Disabled = f.Servers[i].Disabled || f.Servers[i].Name == "api-2"
			}
		}
		if content, err = json.Marshal(loaded); err != nil {
			t.Fatal(err)
		}
		b.haproxy.startWith(content)
		sent := len(b.haproxy.steps())
		// The small service goes first, and with it the other worker is seen.
		b.catalog.answers(
			catalog.Service{Name: "api", Known: true, Instances: flood(leaving)},
			catalog.Service{Name: "web", Known: true, Instances: []catalog.Instance{instance("web-1", 101), instance("web-2", 102), instance("web-3", 103)}},
		)
		b.eventually("the small service's server is there", 5*time.Second, func() bool { return len(b.haproxy.shows("web_nodes")) == 3 })
		b.passes(10 * time.Second)
		if got := b.haproxy.steps()[sent:]; slices.Contains(got, "ready api-2") {
			t.Errorf("got %q: an instance that leaves was let in", got)
		}
	})
}

// A server that is lost gets no request once Consul lists another service's instance at
// its address, though that service is large and has no turn yet.
func TestTurns_LargeServiceHasAddressOfLostServer_GoesBeforeItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		b.afterFlood()
		recorded := len(b.recorder.told("step "))
		b.catalog.answers(
			catalog.Service{Name: "api", Known: true, Instances: append(flood(), instance("late", 101))},
			catalog.Service{Name: "web", Known: true},
		)
		b.eventually("it goes", 5*time.Second, func() bool { return len(b.recorder.told("step web drain")) > 0 })
		if got := b.recorder.told("step ")[recorded]; !strings.HasPrefix(got, "step web drain") {
			t.Errorf("the first step is %q, want that of the server whose address is another service's", got)
		}
	})
}

// What is removed, in the flooded service itself, does not wait for all that is added.
func TestTurns_FloodOfOneService_ItsCriticalInstanceGoesAfterOneBatch(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := flooded(t, dynamic)
		b.duringFlood(func() { b.catalog.says("api", flood(critical)...) })
		b.eventually("it is taken out", 5*time.Second, func() bool { return len(b.recorder.told("step api maint")) > 0 })
		if n := b.stepsBefore("api maint"); n > 3*floodBatch { // those under way, and one more
			t.Errorf("%d steps of the flood came before it, want %d at most", n, 3*floodBatch)
		}
	})
}

// A drain is acknowledged while haproxy.cfg is written for the flood of another service.
func TestTurns_FileIsWrittenForFlood_AnotherServicesDrainIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		b.catalog.says("web", instance("web-1", 101), instance("web-2", 102, leaving))
		b.eventually("it is drained", 5*time.Second, func() bool { d, _ := b.agent.State().Drain("web", "web-2"); return d.Drained })
		b.passes(time.Second)
		hold := make(chan struct{})
		b.file.with(func() { b.file.hold = hold })
		defer close(hold)
		b.catalog.says("api", flood()...)
		b.eventually("the file is written for the flood", 5*time.Second, func() bool { return b.agent.State().File.Pending })
		b.passes(time.Second)
		if d, _ := b.agent.State().Drain("web", "web-2"); !d.Drained {
			t.Errorf("got %+v, want drained: the file on disk has it so", d)
		}
		if d, _ := b.agent.State().Drain("api", "flood-60"); d.Drained {
			t.Errorf("of the flood: got %+v, want not drained", d)
		}
	})
}

func TestBehind_FloodLasts_StateReadinessAndLogSaySo(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := flooded(t, dynamic)
		b.haproxy.with(func() { b.haproxy.onApply = func(context.Context) { time.Sleep(2 * time.Second) } })
		began := time.Now()
		b.catalog.says("api", flood()...)
		b.passes(9 * time.Second)
		if s := b.agent.State(); !s.Ready || s.Behind.Changes < 10 || s.Behind.Since.Sub(began) > 3*time.Second {
			t.Errorf("after 9s: got ready %v, behind %+v, want ready still, and changes since %s", s.Ready, s.Behind, began)
		}
		b.passes(6 * time.Second)
		s := b.agent.State()
		if s.Ready || !strings.HasPrefix(s.NotReady, "behind Consul by ") || !strings.Contains(s.NotReady, " changes, oldest 1") {
			t.Errorf("after 15s: got ready %v, %q, want not ready, by how many changes and since when", s.Ready, s.NotReady)
		}
		b.eventually("ready again", 3*time.Minute, func() bool { s := b.agent.State(); return s.Ready && s.Behind == reconcile.BehindState{} })
		if got := len(b.haproxy.shows("api_nodes")); got != floodSize {
			t.Errorf("ready with %d servers of api, want %d", got, floodSize)
		}
		for _, line := range []string{"[WARN]  behind Consul: changes=", "[INFO]  no longer behind Consul"} {
			if n := b.log.count(line); n != 1 {
				t.Errorf("%q was logged %d times, want once:\n%s", line, n, b.log)
			}
		}
	})
}

// A change is under way at each look, and none waits for long.
func TestBehind_ChangesAllTheTimeAndEachGoesThrough_StaysReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		b.haproxy.with(func() { b.haproxy.onApply = func(context.Context) { time.Sleep(150 * time.Millisecond) } })
		seen := 0
		b.recorder.with(func() {
			b.recorder.onState = func(s *reconcile.State) {
				if s.Converged && !s.Ready {
					t.Errorf("not ready: %s", s.NotReady)
				}
				if s.Behind.Changes > 0 {
					seen++
				}
			}
		})
		for n := range 600 {
			b.catalog.says("web", instance("web-1", 101), instance("web-2", 102, func(i *catalog.Instance) { i.Weight = 1 + n%200 }))
			b.passes(50 * time.Millisecond)
		}
		if seen < 20 {
			t.Errorf("behind in %d states, want it to be the case that is tried", seen)
		}
	})
}

// What fails has its own line, and an operator must not lose readiness for it.
func TestBehind_StepThatFails_StaysReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		b.catalog.says("api", flood()...)
		b.eventually("the flood is done", time.Minute, func() bool { return len(b.haproxy.shows("api_nodes")) == floodSize })
		b.haproxy.with(func() {
			b.haproxy.fail = func(s plan.Step) error {
				if s.Server == "web-3" || s.Server == "api-new" {
					return errors.New("no")
				}
				return nil
			}
		})
		b.catalog.says("web", instance("web-1", 101), instance("web-2", 102), instance("web-3", 103))
		b.catalog.says("api", append(flood(), instance("api-new", 99))...)
		b.passes(time.Minute)
		if s := b.agent.State(); !s.Ready || s.Behind.Changes != 0 {
			t.Errorf("got ready %v, behind %+v, want ready and not behind", s.Ready, s.Behind)
		}
	})
}

// Two large services wait for sessions: the file is current all the same, as the
// watch for invariants wants.
func TestTurns_TwoLargeServicesDrainForLong_FileIsCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := flooded(t, true)
		web := func(change ...func(*catalog.Instance)) (all []catalog.Instance) {
			all = []catalog.Instance{instance("web-1", 101), instance("web-2", 102, change...)}
			for n := 103; n < 120; n++ {
				all = append(all, instance(fmt.Sprintf("web-%d", n), n))
			}
			return all
		}
		b.catalog.says("api", flood()...)
		b.catalog.says("web", web()...)
		b.eventually("both are there", time.Minute, func() bool {
			return len(b.haproxy.shows("api_nodes")) == floodSize && len(b.haproxy.shows("web_nodes")) == 19
		})
		b.haproxy.with(func() {
			b.haproxy.server("api_nodes", "api-2").Sessions, b.haproxy.server("web_nodes", "web-2").Sessions = 1, 1
		})
		b.catalog.says("api", flood(leaving)...)
		b.catalog.says("web", web(leaving)...)
		b.passes(10 * time.Second)
		notCurrent := 0
		b.recorder.with(func() {
			b.recorder.onState = func(s *reconcile.State) {
				if !s.File.Current {
					notCurrent++
				}
			}
		})
		b.passes(20 * time.Second)
		if notCurrent > 0 || slices.Contains(b.haproxy.shows("api_nodes"), "api-2 10.0.0.2:4000 maint down") {
			t.Errorf("the file was not current in %d states of a drain, with %q", notCurrent, b.haproxy.shows("api_nodes"))
		}
	})
}

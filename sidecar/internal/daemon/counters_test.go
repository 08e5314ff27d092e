package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// HAProxy's runtime socket takes few connections, and the loop needs one of them: it is
// asked once at a time, and once a second for each backend, however many ask.
func TestCountersOf_ManyAsk_HAProxyIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, reads := 0, 0, 0
		var fails error
		read := func(context.Context, string) (haproxy.BackendCounters, error) {
			mu.Lock()
			now, reads = now+1, reads+1
			most = max(most, now)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			now--
			return haproxy.BackendCounters{
				Answers: haproxy.Answers{Requests: 1, Status4xx: 2, Status5xx: 3, Service4xx: 4, Service5xx: 5, NoServer: 6, Broken: 7, Denied: 8},
				Servers: map[string]haproxy.Counters{"s1": {Requests: uint64(reads)}},
			}, fails
		}
		instances := []reconcile.InstanceState{{ID: "api-1", Server: "s1", Version: "1.0"}}
		state := &reconcile.State{Services: []reconcile.ServiceState{
			{Name: "api", Backend: "api", Instances: instances}, {Name: "api", Backend: "api-admin", Instances: instances},
		}}
		counters := countersOf(func() *reconcile.State { return state }, read)
		want := sidecarapi.Answers{Backend: "api-admin", Requests: 1, Status4xx: 2, Status5xx: 3, Service4xx: 4, Service5xx: 5, NoServer: 6, Broken: 7, Denied: 8}
		ask := func(wantReads int) {
			t.Helper()
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if got, isKnown, err := counters(t.Context(), "api"); err != nil || !isKnown || len(got.Instances) != 2 || got.Instances[0].Server != "s1" || len(got.Answers) != 2 || got.Answers[1] != want {
						t.Errorf("got %v, %v, %v", got, isKnown, err)
					}
				})
			}
			all.Wait()
			if most > 1 || reads != wantReads {
				t.Errorf("HAProxy was asked %d times, %d at once, want %d and 1", reads, most, wantReads)
			}
		}
		ask(2)
		ask(2)
		time.Sleep(countersAge)
		ask(4)

		time.Sleep(countersAge)
		fails = errors.New("no answer")
		if _, isKnown, err := counters(t.Context(), "api"); err == nil || !isKnown {
			t.Errorf("known %v, error %v, want HAProxy's", isKnown, err)
		}
		fails = nil
		ask(7) // a failure is not kept

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(countersAge)
		var other sync.WaitGroup
		defer other.Wait()
		other.Go(func() { _, _, _ = counters(t.Context(), "api") }) // it has the turn
		synctest.Wait()
		if _, _, err := counters(ended, "api"); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v for one who has gone", err)
		}
	})
}

// gathererScene is a load balancer beside lb1 and lb2.
func gathererScene() *countersGatherer {
	counted := func(name string) sidecarapi.Counters {
		return sidecarapi.Counters{LoadBalancer: name, Service: "api", Instances: []sidecarapi.InstanceCounters{{Instance: "a", Version: "1.0"}, {Instance: "b", Version: "0.9"}, {Instance: "c", Version: "1.1"}}}
	}
	return &countersGatherer{
		name: "lb0",
		own: func(context.Context, string) (sidecarapi.Counters, bool, error) {
			return counted("lb0"), true, nil
		},
		members: func(context.Context) ([]fleet.Member, error) {
			return []fleet.Member{{Name: "lb0"}, {Name: "lb1"}, {Name: "lb2"}, {Name: "lb3", Problem: "denied"}}, nil
		},
		ask: func(_ context.Context, m fleet.Member, _ string) (sidecarapi.Counters, error) {
			return counted(m.Name), nil
		},
	}
}

func gathered(all []sidecarapi.Counters) string {
	var names []string
	for _, c := range all {
		for _, i := range c.Instances {
			names = append(names, c.LoadBalancer+" "+i.Version)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// A Consul that does not answer leaves time to ask the load balancers that it listed last.
func TestCountersGatherer_ConsulHangs_KnownAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gathererScene()
		const want = "lb0 1.0, lb0 1.1, lb1 1.0, lb1 1.1, lb2 1.0, lb2 1.1"
		if got := gathered(g.gather(t.Context(), "api", "1.0", "1.1")); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		g.members = func(ctx context.Context) ([]fleet.Member, error) { <-ctx.Done(); return nil, ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), lookTimeout)
		defer cancel()
		begun := time.Now()
		if got := gathered(g.gather(ctx, "api", "1.0", "1.1")); got != want || time.Since(begun) > membersTimeout {
			t.Errorf("got %s after %s, want %s", got, time.Since(begun), want)
		}
	})
}

// What all answer together is bounded, whatever is registered.
func TestCountersGatherer_HostileAnswers_Bounded(t *testing.T) {
	g := gathererScene()
	g.members = func(context.Context) (all []fleet.Member, _ error) {
		for i := range 20 {
			all = append(all, fleet.Member{Name: fmt.Sprint("lb", i)})
		}
		return all, nil
	}
	many := make([]sidecarapi.InstanceCounters, 20_000)
	for i := range many {
		many[i].Version = "1.1"
	}
	g.ask = func(_ context.Context, m fleet.Member, _ string) (sidecarapi.Counters, error) {
		return sidecarapi.Counters{LoadBalancer: m.Name, Instances: many}, nil
	}
	n := 0
	for _, c := range g.gather(t.Context(), "api", "1.0", "1.1") {
		n += len(c.Instances)
	}
	if n > maxReadings || n < maxReadings/2 {
		t.Errorf("%d instances, want at most %d", n, maxReadings)
	}
}

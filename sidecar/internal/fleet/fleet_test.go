package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// summaryOf is a load balancer that has a number of live instances of 1.1.
func summaryOf(name string, live int, index uint64) Summary {
	return Summary{
		LoadBalancer: name, Verdict: reconcile.Verdict{Status: reconcile.InStep},
		Services: []Service{{Name: "api", Backend: "api", Index: index, Versions: []Version{{Version: "1.1", Listed: true, Total: 3, Live: live}}}},
	}
}

// gathererOf is lb0's, of a fleet with these others. asked counts requests.
func gathererOf(others map[string]func(context.Context) (*Summary, error), asked *atomic.Int32) *Gatherer {
	return &Gatherer{
		Name: "lb0", Own: func() Summary { return summaryOf("lb0", 3, 9) },
		Members: func(context.Context) (all []Member, err error) {
			for _, name := range []string{"lb0", "lb1", "lb2", "lb3"} {
				if name == "lb0" || others[name] != nil {
					all = append(all, Member{Name: name, URL: "http://" + name})
				}
			}
			return all, nil
		},
		Ask: func(ctx context.Context, m Member) (*Summary, error) {
			asked.Add(1)
			return others[m.Name](ctx)
		},
	}
}

func answers(s Summary) func(context.Context) (*Summary, error) {
	return func(context.Context) (*Summary, error) { return &s, nil }
}

func TestGather_OneHangsAndOneIsAnother_NotReachableAndTheRestIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		g := gathererOf(map[string]func(context.Context) (*Summary, error){
			"lb1": answers(summaryOf("lb1", 3, 9)),
			"lb2": func(ctx context.Context) (*Summary, error) { <-ctx.Done(); return nil, context.Cause(ctx) },
			"lb3": answers(summaryOf("lb9", 3, 9)),
		}, &asked)
		begun := time.Now()
		f := g.Gather(t.Context())
		if took := time.Since(begun); took != askTimeout {
			t.Errorf("it took %v, want the deadline of one, %v", took, askTimeout)
		}
		if f.Status != reconcile.Degraded {
			t.Errorf("status %s, want degraded", f.Status)
		}
		want := map[string]string{"lb0": "", "lb1": "", "lb2": "no answer within 2s", "lb3": "another load balancer answers there"}
		if len(f.LoadBalancers) != len(want) {
			t.Fatalf("got %d load balancers: %+v", len(f.LoadBalancers), f.LoadBalancers)
		}
		for _, lb := range f.LoadBalancers {
			if lb.Error != want[lb.Name] || lb.Reached != (want[lb.Name] == "") || lb.Reached != (lb.Summary != nil) {
				t.Errorf("%s: reached %v, error %q, want %q", lb.Name, lb.Reached, lb.Error, want[lb.Name])
			}
		}
		if !strings.Contains(f.Reasons[0].Text, "lb2: not reachable: no answer within 2s") {
			t.Errorf("reasons %+v", f.Reasons)
		}
		// A client that asks within a second gets the same.
		n := asked.Load()
		if g.Gather(t.Context()); asked.Load() != n {
			t.Error("a second look at once asked again")
		}
	})
}

// Traefik's users did not see one stale instance among many (traefik#11688).
func TestGather_OneDiffers_StandsOutAndIsDegradedWhenItStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		stale := summaryOf("lb2", 2, 4)
		g := gathererOf(map[string]func(context.Context) (*Summary, error){
			"lb1": answers(summaryOf("lb1", 3, 9)), "lb2": func(context.Context) (*Summary, error) { s := stale; return &s, nil },
		}, &asked)
		look := func() LoadBalancer {
			t.Helper()
			f := g.Gather(t.Context())
			if len(f.LoadBalancers) != 3 || len(f.LoadBalancers[0].Differs)+len(f.LoadBalancers[1].Differs) > 0 {
				t.Fatalf("got %+v", f.LoadBalancers)
			}
			return f.LoadBalancers[2]
		}
		if got, want := strings.Join(look().Differs, ","), "api: 1.1 2 of 3 live, elsewhere 1.1 3 of 3 live"; got != want {
			t.Errorf("differs %q, want %q", got, want)
		}
		if g.last.Status != reconcile.Behind {
			t.Errorf("at first: %s, want behind", g.last.Status)
		}
		time.Sleep(settling)
		if look(); g.last.Status != reconcile.Degraded {
			t.Errorf("after %v: %s, want degraded", settling, g.last.Status)
		}
		stale = summaryOf("lb2", 3, 9)
		time.Sleep(fresh)
		if got := look().Differs; got != nil || g.last.Status != reconcile.InStep || len(g.since) != 0 {
			t.Errorf("it is the same again: differs %v, status %s, since %v", got, g.last.Status, g.since)
		}
	})
}

func TestGather_TwoDiffer_TheNewerAnswerOfConsulIsRight(t *testing.T) {
	own, other := summaryOf("lb0", 3, 9), summaryOf("lb1", 2, 8)
	f := Fleet{LoadBalancers: []LoadBalancer{{Name: "lb0", Summary: &own, Reached: true}, {Name: "lb1", Summary: &other, Reached: true}}}
	f.judge(map[string]time.Time{})
	if f.LoadBalancers[0].Differs != nil || len(f.LoadBalancers[1].Differs) != 1 {
		t.Errorf("got %v and %v", f.LoadBalancers[0].Differs, f.LoadBalancers[1].Differs)
	}
}

// A failed answer of Consul is not an empty one.
func TestGather_ConsulAway_TheLoadBalancersKnownBeforeAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		g := gathererOf(map[string]func(context.Context) (*Summary, error){"lb1": answers(summaryOf("lb1", 3, 9))}, &asked)
		g.Gather(t.Context())
		time.Sleep(fresh)
		g.Members = func(context.Context) ([]Member, error) { return nil, errors.New("no leader") }
		f := g.Gather(t.Context())
		if len(f.LoadBalancers) != 2 || !f.LoadBalancers[1].Reached || f.Status != reconcile.Degraded {
			t.Errorf("got %+v", f)
		}
		if got := f.Reasons[len(f.Reasons)-1].Text; !strings.HasSuffix(got, "no leader") {
			t.Errorf("reasons %+v", f.Reasons)
		}
	})
}

func TestGather_VeryManyRegistered_ABoundedNumberIsAsked(t *testing.T) {
	var asked atomic.Int32
	g := gathererOf(nil, &asked)
	g.Members = func(context.Context) (all []Member, err error) {
		for i := range 5000 {
			all = append(all, Member{Name: fmt.Sprintf("x%d", i), URL: "http://x"})
		}
		return all, nil
	}
	g.Ask = func(_ context.Context, m Member) (*Summary, error) {
		asked.Add(1)
		s := summaryOf(m.Name, 3, 9)
		return &s, nil
	}
	if f := g.Gather(t.Context()); len(f.LoadBalancers) != maxMembers+1 || asked.Load() != maxMembers-1 {
		t.Errorf("%d listed, %d asked, want %d and %d", len(f.LoadBalancers), asked.Load(), maxMembers+1, maxMembers-1)
	}
}

func TestSummarize_VersionsSideBySide(t *testing.T) {
	i := func(id, version string, phase reconcile.Phase, weight int) reconcile.InstanceState {
		return reconcile.InstanceState{ID: id, Version: version, Phase: phase, Weight: weight, Sessions: 1, Health: "passing"}
	}
	is := &reconcile.State{LoadBalancer: "lb0", Services: []reconcile.ServiceState{{Name: "api", Backend: "api", Index: 7, Instances: []reconcile.InstanceState{
		i("a", "1.0", reconcile.PhaseUp, 2), i("b", "1.0", reconcile.PhaseDown, 2), i("c", "1.1", reconcile.PhaseUp, 0), i("", "", reconcile.PhaseDraining, 1),
	}}}}
	got := Summarize(is, is.Verdict()).Services[0].Versions
	want := []Version{
		{Version: "", Total: 1, Draining: 1, Sessions: 1},
		{Version: "1.0", Listed: true, Total: 2, Live: 1, Down: 1, Weight: 2, Sessions: 2},
		{Version: "1.1", Listed: true, Total: 1, Sessions: 1},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for n := range want {
		if got[n] != want[n] {
			t.Errorf("got %+v, want %+v", got[n], want[n])
		}
	}
}

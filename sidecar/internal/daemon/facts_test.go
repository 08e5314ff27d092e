package daemon

import (
	"slices"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestDrained_NoSessionAndNoNewOne_IsSaid(t *testing.T) {
	for _, c := range []struct {
		name      string
		instances []reconcile.InstanceState
		notReady  bool
		want      bool
	}{
		{"up", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseUp}}, false, false},
		{"draining", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseDraining, Sessions: 2, Leaving: true}}, false, false},
		{"leaving, drained and not in maint yet", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseDrained, Leaving: true}}, false, false},
		{"deregistered, drained and not in maint yet", []reconcile.InstanceState{{Server: "a", Phase: reconcile.PhaseDrained}}, false, false},
		{"drained in Consul's maintenance mode", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseDrained}}, false, true},
		{"out, with a session left", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseOut, Sessions: 1}}, false, false},
		{"out", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseOut}}, false, true},
		{"never heard of", []reconcile.InstanceState{{ID: "b", Server: "b", Phase: reconcile.PhaseUp}}, false, true},
		{"about to be added", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseUnknown}}, false, false},
		{"leaving before it was added", []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseUnknown, Leaving: true}}, false, true},
		{"deregistered, and still up", []reconcile.InstanceState{{Server: "a", Phase: reconcile.PhaseUp}}, false, false},
		// Consul may lose its memory in the middle of a drain.
		{"no longer listed, and in a slot with sessions", []reconcile.InstanceState{{Server: "slot-3", Addr: "10.0.0.1:80", Phase: reconcile.PhaseDraining, Sessions: 1}}, false, false},
		{"no longer listed, and another in a slot is out", []reconcile.InstanceState{{Server: "slot-3", Addr: "10.0.0.1:80", Phase: reconcile.PhaseOut}}, false, true},
		{"no longer listed, and up under the name that it has where it is on several nodes", []reconcile.InstanceState{{Server: catalog.ServerName("a", "node"), Phase: reconcile.PhaseUp}}, false, false},
		{"no longer listed, and another is up under such a name", []reconcile.InstanceState{{Server: catalog.ServerName("b", "node"), Phase: reconcile.PhaseUp}}, false, true},
		{"listed, beside an unlisted one in a slot", []reconcile.InstanceState{{ID: "a", Server: "slot-1", Addr: "10.0.0.1:80", Phase: reconcile.PhaseOut}, {Server: "slot-3", Addr: "10.0.0.2:80", Phase: reconcile.PhaseUp}}, false, true},
		{"out, and another server at its address has a session", []reconcile.InstanceState{{ID: "a", Server: "slot-1", Addr: "10.0.0.1:80", Phase: reconcile.PhaseOut}, {Server: "slot-3", Addr: "10.0.0.1:80", Phase: reconcile.PhaseDraining, Sessions: 1}}, false, false},
		{"on two nodes, one of them up", []reconcile.InstanceState{
			{ID: "a", Node: "n1", Server: "a-h1", Phase: reconcile.PhaseOut}, {ID: "a", Node: "n2", Server: "a-h2", Phase: reconcile.PhaseUp},
		}, false, false},
		{"before all of Consul's answers are there", nil, true, false},
	} {
		f := Facts{State: &reconcile.State{
			Converged: !c.notReady, HAProxy: reconcile.HAProxyState{Running: true},
			Services: []reconcile.ServiceState{{Name: "api", Known: true, Instances: c.instances}},
		}}
		d, routed := f.Drain("api", "a")
		if d.Drained != c.want || !routed {
			t.Errorf("%s: got drained %v, routed %v, want %v, true", c.name, d.Drained, routed, c.want)
		}
	}
	if _, routed := (Facts{State: &reconcile.State{Converged: true}}).Drain("web", "a"); routed {
		t.Error("a service that is not routed: got true")
	}
}

func TestDrained_Unseen_IsNotReported(t *testing.T) {
	gone := []reconcile.InstanceState{{ID: "a", Server: "a", Phase: reconcile.PhaseUnknown, Leaving: true}}
	for _, c := range []struct {
		name  string
		state reconcile.State
		want  bool
	}{
		{"an HAProxy that runs without it", reconcile.State{HAProxy: reconcile.HAProxyState{Running: true}}, true},
		{"an HAProxy that hangs, and may serve", reconcile.State{}, false},
		{"an HAProxy that has ended, and whose file is without it", reconcile.State{HAProxy: reconcile.HAProxyState{Stopped: true}, File: reconcile.FileState{Current: true}}, true},
		{"an HAProxy that has ended, and whose file may have it", reconcile.State{HAProxy: reconcile.HAProxyState{Stopped: true}}, false},
	} {
		c.state.Converged = true
		c.state.Services = []reconcile.ServiceState{{Name: "api", Known: true, Instances: gone}}
		if d, _ := (Facts{State: &c.state}).Drain("api", "a"); d.Drained != c.want {
			t.Errorf("%s: got drained %v, want %v", c.name, d.Drained, c.want)
		}
		c.state.Services[0].Known = false
		if d, _ := (Facts{State: &c.state}).Drain("api", "a"); d.Drained {
			t.Errorf("%s, and a service that Consul has not told of: got drained", c.name)
		}
	}
}

func TestLiveAreThoseThatTakeTraffic(t *testing.T) {
	f := Facts{State: &reconcile.State{Converged: true, Services: []reconcile.ServiceState{{Name: "api", Instances: []reconcile.InstanceState{
		{ID: "a", Version: "1.0", Phase: reconcile.PhaseUp, Weight: 1},
		{ID: "b", Version: "1.1", Phase: reconcile.PhaseUp, Weight: 1},
		{ID: "c", Version: "1.1", Phase: reconcile.PhaseUp}, // weight 0
		{ID: "d", Version: "1.1", Phase: reconcile.PhaseStarting, Weight: 1},
		{ID: "e", Version: "1.1", Phase: reconcile.PhaseUp, Weight: 1, Leaving: true},
		{Server: "f", Phase: reconcile.PhaseUp, Weight: 1}, // gone from Consul
	}}}}}
	for version, want := range map[string]int{"1.0": 1, "1.1": 1, "": 2, "2.0": 0} {
		if got, routed := f.Live("api", version); got != want || !routed {
			t.Errorf("version %q: got %d, routed %v, want %d", version, got, routed, want)
		}
	}
}

func TestService_SeveralBackends_EachIsLookedAt(t *testing.T) {
	up, out, busy := reconcile.PhaseUp, reconcile.PhaseOut, reconcile.PhaseDraining
	for _, c := range []struct {
		name            string
		first, second   []reconcile.InstanceState
		drained         bool
		phase           reconcile.Phase
		sessions, count int
	}{
		{"out in both", []reconcile.InstanceState{{ID: "a", Phase: out}}, []reconcile.InstanceState{{ID: "a", Phase: out}}, true, out, 0, 0},
		{"out in the first, up in the second", []reconcile.InstanceState{{ID: "a", Phase: out}}, []reconcile.InstanceState{{ID: "a", Phase: up, Weight: 1, Sessions: 2}}, false, up, 2, 0},
		{"busy in the first, not in the second", []reconcile.InstanceState{{ID: "a", Phase: busy, Sessions: 3}}, nil, false, busy, 3, 0},
		{"out in the first, not in the second", []reconcile.InstanceState{{ID: "a", Phase: out}}, nil, true, out, 0, 0},
		{"in the second only", nil, []reconcile.InstanceState{{ID: "a", Phase: up, Weight: 1}}, false, up, 0, 1},
		{"its role lost in the first, where it has a session, and up in the second", []reconcile.InstanceState{{Server: "a", Phase: out, Sessions: 1}}, []reconcile.InstanceState{{ID: "a", Phase: up, Weight: 1}}, false, out, 1, 1},
		{"its role lost in the first, where it has a session, and out in the second", []reconcile.InstanceState{{Server: "a", Phase: out, Sessions: 1}}, []reconcile.InstanceState{{ID: "a", Phase: out}}, false, out, 1, 0},
		{"up in both", []reconcile.InstanceState{{ID: "a", Phase: up, Weight: 1}}, []reconcile.InstanceState{{ID: "a", Phase: up, Weight: 1}}, false, up, 0, 1},
	} {
		f := Facts{State: &reconcile.State{
			Converged: true, HAProxy: reconcile.HAProxyState{Running: true},
			Services: []reconcile.ServiceState{
				{Name: "pg", Backend: "pg-primary", Known: true, Index: 8, Instances: c.first},
				{Name: "pg", Backend: "pg-replica", Known: true, Index: 7, Instances: c.second},
			},
		}}
		if d, routed := f.Drain("pg", "a"); d.Drained != c.drained || d.Phase != string(c.phase) || d.Sessions != c.sessions || !routed {
			t.Errorf("%s: got %+v, routed %v, want drained %v, %s, %d sessions", c.name, d, routed, c.drained, c.phase, c.sessions)
		}
		if n, routed := f.Live("pg", ""); n != c.count || !routed {
			t.Errorf("%s: got %d live, routed %v, want %d", c.name, n, routed, c.count)
		}
		if got := f.Index("pg"); got != 7 {
			t.Errorf("%s: got index %d, want the older one, 7", c.name, got)
		}
	}
}

// someDatacenters gives the datacenters of backends; in the second one, every index is 100
// more.
type someDatacenters map[string][]string

func (d someDatacenters) Index(backend, datacenter string, at uint64) (uint64, bool) {
	n := 0
	if datacenter != "" {
		n = slices.Index(d[backend], datacenter)
	}
	return at + 100*uint64(max(n, 0)), n >= 0
}

func (d someDatacenters) Others(backend string) []string {
	if len(d[backend]) == 0 {
		return nil
	}
	return d[backend][1:]
}

func (d someDatacenters) OfOthers(backend string) map[[2]string]bool {
	out := map[[2]string]bool{}
	for _, datacenter := range d.Others(backend) {
		out[[2]string{"a." + datacenter, ""}] = true
	}
	return out
}

func (d someDatacenters) IsNamed(backend string) bool { return len(d[backend]) > 0 }

func TestDrain_OfADatacenter_ItsInstanceByItsIndex(t *testing.T) {
	const up, out = reconcile.PhaseUp, reconcile.PhaseOut
	one := func(backend string, index uint64, here, there reconcile.Phase) reconcile.ServiceState {
		return reconcile.ServiceState{Name: "api", Backend: backend, Known: true, Index: index, Instances: []reconcile.InstanceState{
			{ID: "a", Server: "a", Addr: "10.0.0.1:80", Phase: here, Weight: 1}, {ID: "a.dc2", Server: "a.dc2", Addr: "10.0.0.2:80", Phase: there, Weight: 1},
		}}
	}
	has := someDatacenters{"both": {"dc1", "dc2"}, "turned": {"dc2", "dc1"}}
	for _, c := range []struct {
		name, datacenter string
		services         []reconcile.ServiceState
		drained, routed  bool
		id               string
		index            uint64
	}{
		{"the first, by no name", "", []reconcile.ServiceState{one("both", 7, out, up)}, true, true, "a", 7},
		{"the first", "dc1", []reconcile.ServiceState{one("both", 7, out, up)}, true, true, "a", 7},
		{"the first, still up", "dc1", []reconcile.ServiceState{one("both", 7, up, out)}, false, true, "a", 7},
		{"the second", "dc2", []reconcile.ServiceState{one("both", 7, up, out)}, true, true, "a.dc2", 107},
		{"the second, still up", "dc2", []reconcile.ServiceState{one("both", 7, out, up)}, false, true, "a.dc2", 107},
		{"one that is not asked", "dc3", []reconcile.ServiceState{one("both", 7, out, out)}, true, false, "", 0},
		{"a backend without it", "dc2", []reconcile.ServiceState{one("both", 7, up, out), {Name: "api", Backend: "own", Known: true, Index: 3}}, true, true, "a.dc2", 107},
		{"a backend that names none, with it", "dc1", []reconcile.ServiceState{one("both", 7, out, out), one("own", 3, up, out)}, false, true, "a", 7},
		{"a backend that names none, without its sessions", "dc1", []reconcile.ServiceState{one("both", 7, out, out), one("own", 3, out, up)}, true, true, "a", 7},
		{"a backend that names none any more", "dc1", []reconcile.ServiceState{one("own", 7, up, up)}, false, true, "a", 0},
		{"a backend that had it", "dc2", []reconcile.ServiceState{one("own", 7, up, up)}, false, true, "a.dc2", 0},
		{"backends that have another one first", "dc2", []reconcile.ServiceState{one("both", 7, up, out), {Name: "api", Backend: "turned", Known: true, Index: 5, Instances: []reconcile.InstanceState{
			{ID: "a", Server: "a", Phase: up, Addr: "10.0.0.2:80"}, {ID: "a.dc1", Server: "a.dc1", Phase: out, Addr: "10.0.0.1:80"},
		}}}, false, true, "a", 5},
		{"another service", "dc2", []reconcile.ServiceState{{Name: "web", Backend: "web"}}, false, false, "a", 0},
	} {
		state := &reconcile.State{Converged: true, HAProxy: reconcile.HAProxyState{Running: true}, Services: c.services}
		f := Facts{State: state, source: has}.In(c.datacenter)
		d, routed := f.Drain("api", "a")
		if d.Drained != c.drained || routed != c.routed || d.Instance != c.id || f.Index("api") != c.index {
			t.Errorf("%s: got %+v, routed %v, index %d, want drained %v of %q, routed %v, index %d", c.name, d, routed, f.Index("api"), c.drained, c.id, c.routed, c.index)
		}
	}
	state := &reconcile.State{Services: []reconcile.ServiceState{one("both", 7, up, up)}, HAProxy: reconcile.HAProxyState{Running: true}}
	f := Facts{State: state, source: has}.In("dc3")
	if d, routed := f.Drain("api", "a"); d.Drained || !routed {
		t.Errorf("before all is known: got %+v, %v, want nothing claimed", d, routed)
	}
	state.Services[0].Instances = append(state.Services[0].Instances, reconcile.InstanceState{ID: "b.dc2", Node: "n", Phase: up, Weight: 1})
	if n, _ := (Facts{State: state, source: has}).Live("api", ""); n != 2 {
		t.Errorf("live: got %d, want the two of the first datacenter, also the one whose ID ends in .dc2", n)
	}
	shown := withFirstIndexes(state, shifted{has})
	if shown.Services[0].Index != 6 || state.Services[0].Index != 7 {
		t.Errorf("got index %d shown, %d in the state, want 6 and 7", shown.Services[0].Index, state.Services[0].Index)
	}
}

// shifted has other indexes for answers than their own.
type shifted struct{ someDatacenters }

func (shifted) Index(_, _ string, at uint64) (uint64, bool) { return at - 1, true }

package cli

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/agent"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func TestAnInstanceIsDrainedWhenNobodyIsOnItAndNobodyComes(t *testing.T) {
	for _, c := range []struct {
		name      string
		instances []agent.InstanceState
		notReady  bool
		want      bool
	}{
		{"up", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseUp}}, false, false},
		{"draining", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseDraining, Sessions: 2, Leaving: true}}, false, false},
		{"leaving, drained and not in maint yet", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseDrained, Leaving: true}}, false, false},
		{"deregistered, drained and not in maint yet", []agent.InstanceState{{Server: "a", Phase: agent.PhaseDrained}}, false, false},
		{"drained in Consul's maintenance mode", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseDrained}}, false, true},
		{"out, with a session left", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseOut, Sessions: 1}}, false, false},
		{"out", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseOut}}, false, true},
		{"never heard of", []agent.InstanceState{{ID: "b", Server: "b", Phase: agent.PhaseUp}}, false, true},
		{"about to be added", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseUnknown}}, false, false},
		{"leaving before it was added", []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseUnknown, Leaving: true}}, false, true},
		{"deregistered, and still up", []agent.InstanceState{{Server: "a", Phase: agent.PhaseUp}}, false, false},
		// Consul may lose its memory in the middle of a drain.
		{"no longer listed, and in a slot with sessions", []agent.InstanceState{{Server: "slot-3", Addr: "10.0.0.1:80", Phase: agent.PhaseDraining, Sessions: 1}}, false, false},
		{"no longer listed, and another in a slot is out", []agent.InstanceState{{Server: "slot-3", Addr: "10.0.0.1:80", Phase: agent.PhaseOut}}, false, true},
		{"no longer listed, and up under the name that it has where it is on several nodes", []agent.InstanceState{{Server: catalog.ServerName("a", "node"), Phase: agent.PhaseUp}}, false, false},
		{"no longer listed, and another is up under such a name", []agent.InstanceState{{Server: catalog.ServerName("b", "node"), Phase: agent.PhaseUp}}, false, true},
		{"listed, beside an unlisted one in a slot", []agent.InstanceState{{ID: "a", Server: "slot-1", Addr: "10.0.0.1:80", Phase: agent.PhaseOut}, {Server: "slot-3", Addr: "10.0.0.2:80", Phase: agent.PhaseUp}}, false, true},
		{"out, and another server at its address has a session", []agent.InstanceState{{ID: "a", Server: "slot-1", Addr: "10.0.0.1:80", Phase: agent.PhaseOut}, {Server: "slot-3", Addr: "10.0.0.1:80", Phase: agent.PhaseDraining, Sessions: 1}}, false, false},
		{"on two nodes, one of them up", []agent.InstanceState{
			{ID: "a", Node: "n1", Server: "a-h1", Phase: agent.PhaseOut}, {ID: "a", Node: "n2", Server: "a-h2", Phase: agent.PhaseUp},
		}, false, false},
		{"before all of Consul's answers are there", nil, true, false},
	} {
		f := facts{&agent.State{
			Converged: !c.notReady, HAProxy: agent.HAProxyState{Running: true},
			Services: []agent.ServiceState{{Name: "api", Known: true, Instances: c.instances}},
		}}
		d, routed := f.Drain("api", "a")
		if d.Drained != c.want || !routed {
			t.Errorf("%s: got drained %v, routed %v, want %v, true", c.name, d.Drained, routed, c.want)
		}
	}
	if _, routed := (facts{&agent.State{Converged: true}}).Drain("web", "a"); routed {
		t.Error("a service that is not routed: got true")
	}
}

func TestWhatIsNotSeenIsNotCalledDrained(t *testing.T) {
	gone := []agent.InstanceState{{ID: "a", Server: "a", Phase: agent.PhaseUnknown, Leaving: true}}
	for _, c := range []struct {
		name  string
		state agent.State
		want  bool
	}{
		{"an HAProxy that runs without it", agent.State{HAProxy: agent.HAProxyState{Running: true}}, true},
		{"an HAProxy that hangs, and may serve", agent.State{}, false},
		{"an HAProxy that has ended, and whose file is without it", agent.State{HAProxy: agent.HAProxyState{Stopped: true}, File: agent.FileState{Current: true}}, true},
		{"an HAProxy that has ended, and whose file may have it", agent.State{HAProxy: agent.HAProxyState{Stopped: true}}, false},
	} {
		c.state.Converged = true
		c.state.Services = []agent.ServiceState{{Name: "api", Known: true, Instances: gone}}
		if d, _ := (facts{&c.state}).Drain("api", "a"); d.Drained != c.want {
			t.Errorf("%s: got drained %v, want %v", c.name, d.Drained, c.want)
		}
		c.state.Services[0].Known = false
		if d, _ := (facts{&c.state}).Drain("api", "a"); d.Drained {
			t.Errorf("%s, and a service that Consul has not told of: got drained", c.name)
		}
	}
}

func TestLiveAreThoseThatTakeTraffic(t *testing.T) {
	f := facts{&agent.State{Converged: true, Services: []agent.ServiceState{{Name: "api", Instances: []agent.InstanceState{
		{ID: "a", Version: "1.0", Phase: agent.PhaseUp, Weight: 1},
		{ID: "b", Version: "1.1", Phase: agent.PhaseUp, Weight: 1},
		{ID: "c", Version: "1.1", Phase: agent.PhaseUp}, // weight 0
		{ID: "d", Version: "1.1", Phase: agent.PhaseStarting, Weight: 1},
		{ID: "e", Version: "1.1", Phase: agent.PhaseUp, Weight: 1, Leaving: true},
		{Server: "f", Phase: agent.PhaseUp, Weight: 1}, // gone from Consul
	}}}}}
	for version, want := range map[string]int{"1.0": 1, "1.1": 1, "": 2, "2.0": 0} {
		if got, routed := f.Live("api", version); got != want || !routed {
			t.Errorf("version %q: got %d, routed %v, want %d", version, got, routed, want)
		}
	}
}

func TestService_SeveralBackends_EachIsLookedAt(t *testing.T) {
	up, out, busy := agent.PhaseUp, agent.PhaseOut, agent.PhaseDraining
	for _, c := range []struct {
		name            string
		first, second   []agent.InstanceState
		drained         bool
		phase           agent.Phase
		sessions, count int
	}{
		{"out in both", []agent.InstanceState{{ID: "a", Phase: out}}, []agent.InstanceState{{ID: "a", Phase: out}}, true, out, 0, 0},
		{"out in the first, up in the second", []agent.InstanceState{{ID: "a", Phase: out}}, []agent.InstanceState{{ID: "a", Phase: up, Weight: 1, Sessions: 2}}, false, up, 2, 0},
		{"busy in the first, not in the second", []agent.InstanceState{{ID: "a", Phase: busy, Sessions: 3}}, nil, false, busy, 3, 0},
		{"out in the first, not in the second", []agent.InstanceState{{ID: "a", Phase: out}}, nil, true, out, 0, 0},
		{"in the second only", nil, []agent.InstanceState{{ID: "a", Phase: up, Weight: 1}}, false, up, 0, 1},
		{"its role lost in the first, where it has a session, and up in the second", []agent.InstanceState{{Server: "a", Phase: out, Sessions: 1}}, []agent.InstanceState{{ID: "a", Phase: up, Weight: 1}}, false, out, 1, 1},
		{"its role lost in the first, where it has a session, and out in the second", []agent.InstanceState{{Server: "a", Phase: out, Sessions: 1}}, []agent.InstanceState{{ID: "a", Phase: out}}, false, out, 1, 0},
		{"up in both", []agent.InstanceState{{ID: "a", Phase: up, Weight: 1}}, []agent.InstanceState{{ID: "a", Phase: up, Weight: 1}}, false, up, 0, 1},
	} {
		f := facts{&agent.State{
			Converged: true, HAProxy: agent.HAProxyState{Running: true},
			Services: []agent.ServiceState{
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

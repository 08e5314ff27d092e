package reconcile_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

var update = flag.Bool("update", false, "rewrite testdata/*.json with what comes out")

// wantState compares the state, as /api/v1/state gives it, with a golden file.
func (b *bench) wantState(golden string) {
	b.t.Helper()
	got, err := json.MarshalIndent(b.agent.State(), "", "  ")
	if err != nil {
		b.t.Fatal(err)
	}
	got = append(got, '\n')
	path := "testdata/" + golden + ".json"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		b.t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestStateBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		var err error
		b.agent, err = reconcile.New(reconcile.Options{
			Name: "lb-1", Version: "1.2.3", Catalog: b.catalog, HAProxy: b.haproxy, File: b.file, Settings: b.settings,
		})
		if err != nil {
			t.Fatal(err)
		}
		b.wantState("state_before_run")
		if !b.agent.Ticked().IsZero() {
			t.Error("got a loop that has come round before it ran")
		}
	})
}

func TestStateWhileHAProxyIsAwayAndConsulHasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.start()
		b.passes(500 * time.Millisecond)
		b.wantState("state_waiting")
	})
}

// An instance in each phase of its life, in slots.
func TestStateShowsEachPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, false)
		b.settings.Services[0].Slots = 8
		b.catalog.says("api", append(many(6), instance("api-9", 9))...)
		b.adoptable()
		b.start()
		b.passes(time.Second)
		b.haproxy.with(func() {
			b.haproxy.nodes[addr(1)], b.haproxy.nodes[addr(8)] = false, false
			b.haproxy.server("api_nodes", "slot-3").Sessions = 2
			b.haproxy.server("api_nodes", "slot-7").Sessions = 1
		})
		maintained := func(i *catalog.Instance) { i.Health = catalog.Maintenance }
		b.passes(time.Minute)
		b.catalog.answers(catalog.Service{
			Name: "api", Known: true,
			Instances: []catalog.Instance{
				instance("api-1", 1),             // down
				instance("api-2", 2),             // up
				instance("api-3", 3, leaving),    // draining
				instance("api-4", 4, maintained), // drained
				instance("api-5", 5, critical),   // out
				instance("api-6", 6),             // up
				instance("api-7", 7, critical),   // unknown: was never in
				instance("api-8", 8),             // starting
				// api-9 is gone, and draining
			},
			Rejected: []catalog.Rejection{{ID: "bad", Node: "node", Err: errors.New("port 0: want 1 to 65535")}},
		})
		b.passes(5 * time.Second)
		b.wantState("state_phases")
		got := map[reconcile.Phase]bool{}
		for _, i := range b.agent.State().Services[0].Instances {
			got[i.Phase] = true
		}
		for _, want := range []reconcile.Phase{
			reconcile.PhaseUnknown, reconcile.PhaseStarting, reconcile.PhaseUp, reconcile.PhaseDown, reconcile.PhaseDraining, reconcile.PhaseDrained, reconcile.PhaseOut,
		} {
			if !got[want] {
				t.Errorf("no server is %s", want)
			}
		}
	})
}

// What was read last of an HAProxy that has ended is not what takes traffic.
func TestStateShowsNoServersOfAnHAProxyThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		b.haproxy.stop()
		b.passes(b.settings.Reconcile + time.Second)
		b.wantState("state_away")
	})
}

func TestStateTellsTroubleWithConsul(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		b.start()
		b.passes(time.Second)
		if c := b.agent.State().Consul; !c.Reachable || c.Error != "" {
			t.Errorf("got %+v, want reachable", c)
		}
		b.catalog.mu.Lock()
		h := b.catalog.health[backendOf("web")]
		oldest := h.Answered
		h.Err = errors.New("connection refused")
		b.catalog.health[backendOf("web")] = h
		b.catalog.mu.Unlock()
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Second)
		c := b.agent.State().Consul
		if c.Reachable || c.Error != "connection refused" {
			t.Errorf("got %+v, want not reachable, for connection refused", c)
		}
		if !c.LastContact.Equal(oldest) {
			t.Errorf("got last contact %s, want the oldest of the services, %s", c.LastContact, oldest)
		}
		if s := b.agent.State().Services[1]; s.Error != "connection refused" || !s.Known {
			t.Errorf("got %+v, want web known, with its error", s)
		}
	})
}

func TestEachPassTellsTheRecorderItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Second)
		before, was := b.recorder.seen(), b.agent.State()
		b.passes(b.settings.Reconcile)
		if b.recorder.seen() == before || b.agent.State() == was {
			t.Error("got no new state after a reconcile")
		}
		if ago := time.Since(b.agent.Ticked()); ago > b.settings.Reconcile {
			t.Errorf("the loop came round %s ago, want within %s", ago, b.settings.Reconcile)
		}
	})
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	good := func() reconcile.Options {
		f := &fakeFile{}
		return reconcile.Options{
			Catalog: newFakeCatalog(), HAProxy: newFakeHAProxy(true, f), File: f,
			Settings: reconcile.Settings{Renderer: &fakeRenderer{marker: plan.Marker{Template: "t"}}, Reconcile: time.Second},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*reconcile.Options)
		want   string
	}{
		{"all is there", func(*reconcile.Options) {}, ""},
		{"no catalog", func(o *reconcile.Options) { o.Catalog = nil }, "Catalog"},
		{"no HAProxy", func(o *reconcile.Options) { o.HAProxy = nil }, "HAProxy"},
		{"no file", func(o *reconcile.Options) { o.File = nil }, "File"},
		{"no renderer", func(o *reconcile.Options) { o.Settings.Renderer = nil }, "Renderer"},
		{"no time between comparisons", func(o *reconcile.Options) { o.Settings.Reconcile = 0 }, "Reconcile is 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good()
			c.change(&o)
			_, err := reconcile.New(o)
			if got := err != nil; got != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that names %q", err, c.want)
			}
		})
	}
}

// An instance without a tag of the backend is listed by Consul all the same.
func TestState_RoleLost_ReasonNamesTheTag(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("a", 1), instance("b", 2))
		b.haproxy.with(func() { b.haproxy.server("api_nodes", b.agent.State().Services[0].Instances[0].Server).Sessions = 1 })
		b.catalog.answers(catalog.Service{Name: "api", Known: true, Instances: []catalog.Instance{instance("b", 2)}, Untagged: []catalog.Instance{instance("a", 1)}})
		b.passes(3 * time.Second)
		i := b.agent.State().Services[0].Instances[0]
		if want := "its instance lacks a tag of the backend; waiting for its sessions to end"; i.Reason != want || !i.RoleLost {
			t.Errorf("got %q, want %q: %+v", i.Reason, want, i)
		}
	})
}

// Such a server was called one that Consul no longer lists.
func TestState_ConsulHasNotAnswered_ServerIsNotCalledGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api")
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.haproxy.with(func() { b.haproxy.server("api_nodes", "a").Admin = plan.Drain })
		b.catalog.answers(catalog.Service{Name: "api"})
		b.start()
		b.passes(2 * time.Second)
		got := map[string]string{}
		for _, i := range b.agent.State().Services[0].Instances {
			got[i.Server] = i.Health + ": " + i.Reason
		}
		want := map[string]string{
			"a": "unknown: HAProxy has it in drain; waiting for a complete answer from Consul",
			"b": "unknown: waiting for a complete answer from Consul",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// A backup that is up gets no request while another server is up, and the state says so.
func TestState_BackupOnStandby_SaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spare := instance("b", 2)
		spare.Backup = true
		b := serving(t, true, instance("a", 1), spare)
		b.passes(time.Second)
		is := func() (standby bool, reason string, gets int) {
			for _, i := range b.agent.State().Services[0].Instances {
				if i.GetsRequests() {
					gets++
				}
				if i.ID == "b" {
					standby, reason = i.Standby, i.Reason
				}
			}
			return standby, reason, gets
		}
		if standby, reason, gets := is(); !standby || reason != "it is a backup, used while no other server of the backend is up" || gets != 1 {
			t.Errorf("beside one that is up: standby %v, %q, %d get requests", standby, reason, gets)
		}
		b.haproxy.with(func() { b.haproxy.nodes[addr(1)] = false; b.haproxy.server("api_nodes", "a").Up = false })
		b.passes(time.Minute)
		if standby, reason, gets := is(); standby || reason != "" || gets != 1 {
			t.Errorf("alone: standby %v, %q, %d get requests", standby, reason, gets)
		}
	})
}

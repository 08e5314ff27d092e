package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// fakeDrains is a file of operator drains.
type fakeDrains struct {
	list []catalog.OperatorDrain
	err  error
}

func (d *fakeDrains) Path() string { return "/etc/haproxy/haproxy.cfg.drains" }

func (d *fakeDrains) Load() ([]catalog.OperatorDrain, error) { return d.list, d.err }

func (d *fakeDrains) Save(list []catalog.OperatorDrain) error {
	if d.err == nil {
		d.list = slices.Clone(list)
	}
	return d.err
}

func (b *bench) setDrain(server string, on bool) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	_, err := b.agent.SetDrain(ctx, "api", server, on)
	return err
}

// phases returns the phase of each instance, by ID, and whether an operator drains it.
func (b *bench) phases() string {
	var out []string
	for _, i := range b.agent.State().Services[0].Instances {
		word := i.ID + " " + string(i.Phase)
		if !i.Drain.IsZero() {
			word += " by operator"
		}
		out = append(out, word)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// The state says what an operator cannot keep in drain, in the words in which it is refused.
func TestOperatorDrain_ServerOfNoInstance_RefusedAsTheStateSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.settings.Services[0].Operator = []string{"own"}
		b.drains = &fakeDrains{}
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.haproxy.with(func() {
			own := *b.haproxy.server("api_nodes", "a")
			own.Name, own.ID = "own", 99
			b.haproxy.backends["api_nodes"] = append(b.haproxy.backends["api_nodes"], &own)
			b.haproxy.server("api_nodes", "b").Sessions = 1
		})
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		b.catalog.says("api", instance("a", 1))
		b.passes(time.Second)
		refused := map[string]string{}
		for _, i := range b.agent.State().Services[0].Instances {
			refused[i.Server] = i.NoDrain
			err := b.setDrain(i.Server, true)
			if (err == nil) != (i.NoDrain == "") || err != nil && (!errors.Is(err, reconcile.ErrNoServer) || !strings.HasSuffix(err.Error(), i.NoDrain)) {
				t.Errorf("%s: the state says %q, and the loop %v", i.Server, i.NoDrain, err)
			}
		}
		if len(refused) != 3 || refused["a"] != "" || !strings.Contains(refused["own"], "operator's own") || !strings.Contains(refused["b"], "Consul does not list") {
			t.Errorf("got %q", refused)
		}
	})
}

func TestOperatorDrain_SidecarRestarts_ServerStaysInDrainUntilReady(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.drains = &fakeDrains{}
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		if i := b.agent.State().Services[0].Instances[0]; i.NoDrain != "" {
			t.Errorf("%s: %s", i.ID, i.NoDrain)
		}
		if err := b.setDrain("nothing", true); !errors.Is(err, reconcile.ErrNoServer) {
			t.Errorf("a server that is not there: got %v, want ErrNoServer", err)
		}
		if err := b.setDrain("a", true); err != nil {
			t.Fatal(err)
		}
		want := "a drained by operator, b up"
		b.eventually(want, time.Second, func() bool { return b.phases() == want })
		b.passes(time.Minute)
		b.stop()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		b.passes(time.Minute)
		if got := b.phases(); got != want {
			t.Errorf("after a restart: got %q, want %q:\n%s", got, want, b.log)
		}
		if n := b.log.count("kept in drain by an operator", "server=a"); n != 1 {
			t.Errorf("got %d lines about it at the start, want 1:\n%s", n, b.log)
		}

		b.catalog.says("api", instance("a", 1, leaving), instance("b", 2))
		b.eventually("the instance that leaves is out, or gone", time.Minute, func() bool {
			return !strings.Contains(b.phases(), "a drain")
		})
		if d, _ := b.agent.State().Drain("api", "a"); !d.Drained {
			t.Errorf("it leaves and is in drain: got %+v, want it drained", d)
		}
		b.catalog.says("api", instance("b", 2))
		b.passes(time.Minute)
		if err := b.setDrain("a", false); err != nil {
			t.Errorf("ready of an instance that is gone: %v", err)
		}
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		want = "a up, b up"
		b.eventually(want, 5*time.Second, func() bool { return b.phases() == want })
		if len(b.drains.list) != 0 || len(b.agent.State().Drains) != 0 {
			t.Errorf("got %v kept, want nothing", b.drains.list)
		}
	})
}

func TestOperatorDrain_LastServers_StayUntilOthersAreUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("a", 1), instance("b", 2))
		for _, server := range []string{"a", "b"} {
			if err := b.setDrain(server, true); err != nil {
				t.Fatal(err)
			}
			b.passes(10 * time.Second)
		}
		if got, want := b.phases(), "a drained by operator, b up by operator"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.catalog.says("api", instance("a", 1), instance("b", 2), instance("c", 3))
		b.passes(10 * time.Second)
		if got, want := b.phases(), "a drained by operator, b drained by operator, c up"; got != want {
			t.Errorf("with another one: got %q, want %q", got, want)
		}
	})
}

// A server is in drain only once that is on disk: a restart would end it without a word.
func TestOperatorDrain_CannotBeSaved_IsAnError(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.drains = &fakeDrains{}
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		b.drains.err = errors.New("disk full")
		if err := b.setDrain("a", true); !errors.Is(err, b.drains.err) {
			t.Errorf("got %v, want that of the disk", err)
		}
		b.passes(time.Minute)
		if got, want := b.phases(), "a up, b up"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// The sidecar itself has made the last server ready, against an operator's drain. That is
// not someone else's doing: when its instance leaves, it stays until another one is up.
func TestOperatorDrain_LastServerLeaves_StaysUntilAnotherIsUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.settings.Services[0].MoveSticky = true // a drain is maint then
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		if err := b.setDrain("a", true); err != nil {
			t.Fatal(err)
		}
		b.passes(10 * time.Second)
		b.catalog.says("api", instance("a", 1))
		want := "a up by operator"
		b.eventually(want, 10*time.Second, func() bool { return strings.HasPrefix(b.phases(), want) })
		b.haproxy.with(func() { b.haproxy.nodes[addr(3)] = false })
		b.catalog.says("api", instance("a", 1, leaving), instance("c", 3))
		b.passes(2 * time.Second)
		if got, want := b.phases(), "a up by operator, c starting"; got != want {
			t.Errorf("got %q, want %q:\n%s", got, want, b.log)
		}
		if n := b.log.count("drift corrected"); n != 0 {
			t.Errorf("got %d lines of drift, want none:\n%s", n, b.log)
		}
		b.haproxy.with(func() { b.haproxy.nodes[addr(3)] = true })
		b.eventually("c is up and a is out", time.Minute, func() bool { return !strings.Contains(b.phases(), "a up") && strings.Contains(b.phases(), "c up") })
	})
}

// lastLeaves has the last server leave, which takes traffic against an operator's drain: it
// stays until another one is up, and nothing of that is someone else's doing.
func (b *bench) lastLeaves(n int) {
	b.t.Helper()
	want := "a up by operator"
	b.eventually(want, 10*time.Second, func() bool { return b.phases() == want })
	b.passes(10 * time.Second)
	b.haproxy.with(func() { b.haproxy.nodes[addr(3)] = false })
	b.catalog.says("api", instance("a", n, leaving), instance("c", 3))
	b.passes(2 * time.Second)
	if got, want := b.phases(), "a up by operator, c starting"; got != want {
		b.t.Errorf("got %q, want %q:\n%s", got, want, b.log)
	}
	if n := b.log.count("drift corrected"); n != 0 {
		b.t.Errorf("got %d lines of drift, want none:\n%s", n, b.log)
	}
	b.haproxy.with(func() { b.haproxy.nodes[addr(3)] = true })
	b.eventually("c is up and a is out", time.Minute, func() bool { return !strings.Contains(b.phases(), "a up") && strings.Contains(b.phases(), "c up") })
}

func TestOperatorDrain_LastServerHasMovedAndLeaves_StaysUntilAnotherIsUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("a", 1))
		if err := b.setDrain("a", true); err != nil {
			t.Fatal(err)
		}
		b.passes(10 * time.Second)
		b.catalog.says("api", instance("a", 9))
		b.passes(10 * time.Second)
		b.lastLeaves(9)
	})
}

func TestOperatorDrain_ServerMovesWhileItIsOutAndIsTheLastAndLeaves_StaysUntilAnotherIsUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.settings.Services[0].MoveSticky = true // a drain is maint then
		b.catalog.says("api", instance("a", 1), instance("b", 2))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		if err := b.setDrain("a", true); err != nil {
			t.Fatal(err)
		}
		b.passes(10 * time.Second)
		b.catalog.says("api", instance("a", 9))
		b.lastLeaves(9)
	})
}

// An agent check that has its server in drain is no reason to make it ready, also where
// the sidecar itself had it out of traffic before.
func TestOperatorDrain_EndsWhereTheAgentSaysDrain_IsLeftToTheAgent(t *testing.T) {
	for _, moves := range []bool{false, true} {
		inBothModes(t, func(t *testing.T, dynamic bool) {
			b := newBench(t, dynamic)
			b.settings.Services[0].MoveSticky = moves // a drain is maint then
			b.catalog.says("api", instance("a", 1), instance("b", 2))
			b.adoptable()
			b.start()
			b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
			b.haproxy.with(func() {
				s := b.haproxy.server("api_nodes", b.nameAt(1))
				s.ConfigWeight, s.Agent, s.drains = 1, plan.AgentOn, true
			})
			if err := b.setDrain("a", true); err != nil {
				t.Fatal(err)
			}
			b.passes(10 * time.Second)
			if err := b.setDrain("a", false); err != nil {
				t.Fatal(err)
			}
			b.passes(time.Minute)
			steps := slices.DeleteFunc(b.haproxy.steps(), func(s string) bool { return !strings.HasPrefix(s, "ready ") })
			if len(steps) != 1 {
				t.Errorf("made ready %d times, want once:\n%s", len(steps), b.log)
			}
		})
	}
}

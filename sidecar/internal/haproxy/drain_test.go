package haproxy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestADrainLeavesRequestsUnderWayAlone(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server one %s check inter 50ms on-marked-down shutdown-sessions\n", node.Addr())))
	s := newSubject(t, p.Runtime(), p.Master())
	one := func() plan.Server { return s.observe(t, "api").Backends["api"].Servers[0] }
	hold(t, front)
	haproxytest.Until(t, "the request is held and the server up", func() bool { return one().Sessions == 1 && one().Up })
	if err := s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}})[0]; err != nil {
		t.Fatal(err)
	}
	if got := one(); got.Admin != plan.Drain || got.Sessions != 1 || !got.Up {
		t.Errorf("got %+v, want it draining, up, with its session", got)
	}
}

func TestADrainDoesNotMakeADeadServerLookAlive(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, fmt.Sprintf("backend api\n  server one %s check inter 50ms fall 1\n", haproxytest.FreeAddr(t)))
	s := newSubject(t, p.Runtime(), p.Master())
	one := func() plan.Server { return s.observe(t, "api").Backends["api"].Servers[0] }
	haproxytest.Until(t, "the server is down", func() bool { return !one().Up })
	if err := s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}})[0]; err != nil {
		t.Fatal(err)
	}
	if got := one(); got.Admin != plan.Drain || got.Up {
		t.Errorf("got %+v, want it draining and down", got)
	}
}

func TestAServerThatTracksAnotherDrains(t *testing.T) {
	t.Parallel()
	node := haproxytest.StartNode(t, "n").Addr()
	p := haproxytest.Start(t, fmt.Sprintf("backend api\n  server one %s check inter 1h\n  server two %s track one\n", node, node))
	s := newSubject(t, p.Runtime(), p.Master())
	if !s.observe(t, "api").Backends["api"].Servers[1].Up {
		t.Fatal("got the server down at the start")
	}
	if err := s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "two"}})[0]; err != nil {
		t.Error(err)
	}
}

func TestOnlyAServerThatWasSeenUpGetsItsClockRestarted(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, []backendSpec{{name: "api", servers: []serverSpec{
		{name: "up", addr: addr("127.0.0.1:9"), weight: 1}, {name: "down", addr: addr("127.0.0.1:9"), weight: 1},
	}}})
	f.Change(func(w *haproxytest.FakeWorker) { w.Backends[0].Servers[1].Up = false })
	s := newSubject(t, f.Runtime(), f.Master())
	s.observe(t, "api")
	before := len(f.Commands())
	s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "up"}, {Kind: plan.SetDrain, Backend: "api", Server: "down"}})
	want := []string{"set server api/up state drain", "set server api/up health stopping", "set server api/up health up", "set server api/down state drain"}
	if got := f.Commands()[before:]; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

package haproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func shutdown(server string, at netip.AddrPort) []plan.Step {
	return []plan.Step{{Kind: plan.Shutdown, Backend: "api", Server: server, Addr: at}}
}

// One request is held in an old worker and one in the current one, where the
// node stands in another slot; a third, on another node, goes on.
func TestAShutdownEndsTheSessionsOnAnAddressInEveryWorker(t *testing.T) {
	t.Parallel()
	front := haproxytest.FreeAddr(t).String()
	node, other := haproxytest.StartNode(t, "n"), haproxytest.StartNode(t, "o")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server slot-1 %s\n  server slot-2 %s disabled\n", node.Addr(), other.Addr())))
	s := newSubject(t, p.Runtime(), p.Master())
	sessions := func(i int) int { return s.observe(t, "api").Backends["api"].Servers[i].Sessions }
	apply := func(steps ...plan.Step) {
		t.Helper()
		for _, err := range s.client.Apply(t.Context(), steps) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	hold(t, front)
	haproxytest.Until(t, "a request is held", func() bool { return sessions(0) == 1 })
	p.WriteConfig(heldConfig(front, fmt.Sprintf("  server slot-1 %s disabled\n  server slot-2 %s\n", other.Addr(), node.Addr())))
	p.Reload()
	haproxytest.Until(t, "the old worker is old", func() bool {
		old, err := s.client.OldWorkers(t.Context())
		return err == nil && len(old) == 1
	})
	hold(t, front)
	haproxytest.Until(t, "another is held after the reload", func() bool { return sessions(1) == 1 })
	apply(plan.Step{Kind: plan.SetMaint, Backend: "api", Server: "slot-2"}, plan.Step{Kind: plan.SetReady, Backend: "api", Server: "slot-1"})
	hold(t, front)
	haproxytest.Until(t, "a third is held by the other node", func() bool { return sessions(0) == 1 })
	if got := sessions(1); got != 2 {
		t.Fatalf("before the shutdown: got %d sessions on the node in both workers, want 2", got)
	}

	apply(shutdown("slot-2", node.Addr())...)
	haproxytest.Until(t, "the sessions on the node have ended, in both workers", func() bool { return sessions(1) == 0 })
	if got := sessions(0); got != 1 {
		t.Errorf("on the other node: got %d sessions, want 1", got)
	}
}

// Three sessions on a server of the current worker, and two on its address in an old one:
// as many end as are asked for, and those on another server go on.
func TestShutdown_SomeSessions_EndsAsMany(t *testing.T) {
	t.Parallel()
	front := haproxytest.FreeAddr(t).String()
	node, other := haproxytest.StartNode(t, "n"), haproxytest.StartNode(t, "o")
	config := func(first, second string) string {
		return heldConfig(front, fmt.Sprintf("  server slot-1 %s%s\n  server slot-2 %s%s\n", node.Addr(), first, other.Addr(), second))
	}
	p := haproxytest.Start(t, config("", " disabled"))
	s := newSubject(t, p.Runtime(), p.Master())
	sessions := func(i int) int { return s.observe(t, "api").Backends["api"].Servers[i].Sessions }
	apply := func(steps ...plan.Step) {
		t.Helper()
		if err := errors.Join(s.client.Apply(t.Context(), steps)...); err != nil {
			t.Fatal(err)
		}
	}
	holdAll := func(count, server, want int) {
		t.Helper()
		for range count {
			hold(t, front)
		}
		haproxytest.Until(t, "the requests are held", func() bool { return sessions(server) == want })
	}
	holdAll(2, 0, 2)
	p.Reload()
	haproxytest.Until(t, "the old worker is old", func() bool {
		old, err := s.client.OldWorkers(t.Context())
		return err == nil && len(old) == 1
	})
	apply(plan.Step{Kind: plan.SetDrain, Backend: "api", Server: "slot-2"}) // only those that are not ready are counted
	apply(plan.Step{Kind: plan.SetReady, Backend: "api", Server: "slot-2"}, plan.Step{Kind: plan.SetMaint, Backend: "api", Server: "slot-1"})
	holdAll(1, 1, 1)
	apply(plan.Step{Kind: plan.SetReady, Backend: "api", Server: "slot-1"}, plan.Step{Kind: plan.SetMaint, Backend: "api", Server: "slot-2"})
	holdAll(3, 0, 3)
	apply(plan.Step{Kind: plan.SetMaint, Backend: "api", Server: "slot-1"})
	haproxytest.Until(t, "all are counted", func() bool { return sessions(0) == 5 })

	some := shutdown("slot-1", node.Addr())
	for _, want := range []int{3, 1, 0} {
		some[0].Sessions = 2
		apply(some...)
		haproxytest.Until(t, fmt.Sprintf("%d are left", want), func() bool { return sessions(0) == want })
	}
	if got := sessions(1); got != 1 {
		t.Errorf("on the other server: got %d sessions, want 1", got)
	}
}

func TestAShutdownThatAnOldWorkerDoesNotTakeIsAnError(t *testing.T) {
	t.Parallel()
	at := addr("127.0.0.1:9")
	f := newFake(t, haproxytest.V34, []backendSpec{{name: "api", servers: []serverSpec{{name: "a", addr: at, weight: 1, disabled: true}}}})
	f.AddOldWorker(&haproxytest.FakeWorker{PID: 77, Backends: []*haproxytest.FakeBackend{{Name: "api", Servers: []*haproxytest.FakeServer{
		{Name: "x", Addr: at, Sessions: 2}, {Name: "y", Addr: addr("127.0.0.1:8"), Sessions: 1},
	}}}})
	s := subject{client: newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), Timeout: 2 * time.Second})}
	s.client.countWait = time.Minute // no count goes on beside what follows, and takes a fault
	s.observe(t, "api")
	f.Fail(0, 0, 0, haproxytest.Hang) // the command, show info, show proc, the old worker
	if err := s.client.Apply(t.Context(), shutdown("a", at))[0]; err == nil || !strings.Contains(err.Error(), "old worker 77") {
		t.Errorf("got %v, want an error that names the old worker", err)
	}
	before := len(f.Commands())
	if err := s.client.Apply(t.Context(), shutdown("a", at))[0]; err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(f.Commands()[before:], func(c string) bool { return !strings.Contains(c, "shutdown") })
	if want := []string{"shutdown sessions server api/a", "@!77 shutdown session 0x7f00000000", "@!77 shutdown session 0x7f00000001"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

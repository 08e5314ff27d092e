package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// hold begins a request that lasts until the node lets it go.
func hold(t *testing.T, frontend string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	wg.Go(func() {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+frontend+"/hold", http.NoBody)
		if err != nil {
			return
		}
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func heldConfig(front, lines string) string {
	return fmt.Sprintf("frontend f\n  bind %s\n  default_backend api\nbackend api\n%s", front, lines)
}

func TestSessionsInOldWorkersAreCountedByAddress(t *testing.T) {
	t.Parallel()
	front, node, other := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n"), haproxytest.StartNode(t, "o")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server slot-1 %s\n  server slot-2 %s disabled\n", node.Addr(), other.Addr())))
	s := newSubject(t, p.Runtime(), p.Master())
	sessions := func(i int) int { return s.observe(t, "api").Backends["api"].Servers[i].Sessions }

	hold(t, front)
	haproxytest.Until(t, "the request is held", func() bool { return sessions(0) == 1 })
	// After the reload the node stands in another slot.
	p.WriteConfig(heldConfig(front, fmt.Sprintf("  server slot-1 %s disabled\n  server slot-2 %s\n", other.Addr(), node.Addr())))
	p.Reload()
	haproxytest.Until(t, "the old worker is old", func() bool {
		old, err := s.client.OldWorkers(t.Context())
		return err == nil && len(old) == 1
	})
	if got := sessions(0); got != 0 {
		t.Errorf("slot-1, that means another address now: got %d sessions, want 0", got)
	}
	if got := sessions(1); got != 0 {
		t.Errorf("slot-2, that is ready: got %d sessions, want 0", got)
	}
	if err := s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "slot-2"}})[0]; err != nil {
		t.Fatal(err)
	}
	if got := sessions(1); got != 1 {
		t.Errorf("slot-2, draining: got %d sessions, want the old worker's 1", got)
	}
	withoutMaster := subject{client: newTestClient(t, Options{Runtime: p.Runtime()})}
	if got := withoutMaster.observe(t, "api").Backends["api"].Servers[1].Sessions; got != 0 {
		t.Errorf("without a master socket: got %d sessions, want the current worker's 0", got)
	}
	node.Release()
	haproxytest.Until(t, "the old worker has ended", func() bool { return sessions(1) == 0 })
}

func TestSessionsInTheServingWorkerAreCountedOnceAfterAFailedReload(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server one %s\n", node.Addr())))
	s := newSubject(t, p.Runtime(), p.Master())
	hold(t, front)
	servers := func() []plan.Server { return s.observe(t, "api").Backends["api"].Servers }
	haproxytest.Until(t, "the request is held", func() bool { return servers()[0].Sessions == 1 })
	p.WriteConfig("backend api\n  nonsense\n")
	if err := s.client.Reload(t.Context(), plan.Marker{}); err == nil {
		t.Fatal("got no error of the reload")
	}
	if err := s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}})[0]; err != nil {
		t.Fatal(err)
	}
	if got := servers()[0].Sessions; got != 1 {
		t.Errorf("got %d sessions, want 1", got)
	}
	if old, err := s.client.OldWorkers(t.Context()); err != nil || len(old) != 0 {
		t.Errorf("got old workers %v, %v; want none", old, err)
	}
}

// A master does not answer while it reads a large file for a reload. A worker that has no
// old one beside it gets none while it serves.
func TestObserve_NoOldWorkerAndMasterHangs_NothingIsUncounted(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	config := func(disabled string) string {
		return heldConfig(front, fmt.Sprintf("  server one %s%s\n  server out 127.0.0.1:7 disabled\n", node.Addr(), disabled))
	}
	p := haproxytest.Start(t, config(""))
	s := subject{client: newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master()})}
	server := func(i int) plan.Server { return s.observe(t, "api").Backends["api"].Servers[i] }
	haproxytest.Until(t, "the sessions of old workers are counted", func() bool { return !server(1).Uncounted })
	p.Freeze(p.MasterPID())
	for range 5 {
		if got := server(1); got.Uncounted || got.Sessions != 0 {
			t.Errorf("got %d sessions, uncounted %v, want none: there was no old worker", got.Sessions, got.Uncounted)
		}
	}
	p.Thaw(p.MasterPID())
	hold(t, front)
	haproxytest.Until(t, "the request is held", func() bool { return server(0).Sessions == 1 })
	p.WriteConfig(config(" disabled"))
	p.Reload()
	haproxytest.Until(t, "the session of the worker that is old now is counted", func() bool {
		got := server(0)
		return !got.Uncounted && got.Admin == plan.Maint && got.Sessions == 1
	})
}

// A HAProxy that was started without -S, or whose master socket is another group's.
// Unknown is not zero, except on a slot without an instance. And the log names the socket
// once, before a reload is due.
func TestObserve_MasterUnusable_FreeSlotsAreFreeAndLogSaysWhy(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend api\n  server slot-1 127.0.0.1:7 disabled\n  server slot-2 127.0.0.1:9 disabled\n")
	var log bytes.Buffer
	c := newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master() + ".none", Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})})
	for range 2 {
		o, err := c.Observe(t.Context(), []string{"api"})
		if err != nil {
			t.Fatal(err)
		}
		servers := o.Backends["api"].Servers
		if len(servers) != 2 || servers[0].Sessions != 1 || servers[1].Sessions != 0 || servers[1].Uncounted {
			t.Errorf("got %+v, want one session on slot-1 and none on slot-2, which has no instance", servers)
		}
		if _, err := c.OldWorkers(t.Context()); !errors.Is(err, ErrNoSocket) {
			t.Errorf("got %v, want %v", err, ErrNoSocket)
		}
	}
	if got := log.String(); strings.Count(got, "master socket unusable") != 1 || !strings.Contains(got, p.Master()+".none: no such socket") {
		t.Errorf("want one line that names the master socket, got:\n%s", got)
	}
}

func TestWhatOldWorkersDoIsNeverTakenForNothing(t *testing.T) {
	t.Parallel()
	maint := []backendSpec{{name: "api", servers: []serverSpec{
		{name: "out", addr: addr("127.0.0.1:7"), weight: 1, disabled: true}, {name: "in", addr: addr("127.0.0.1:8"), weight: 1},
	}}}
	old := func() *haproxytest.FakeWorker {
		return &haproxytest.FakeWorker{PID: 77, Backends: []*haproxytest.FakeBackend{{Name: "api", Servers: []*haproxytest.FakeServer{
			{Name: "x", Addr: addr("127.0.0.1:7"), Sessions: 2, Queued: 1},
		}}}}
	}
	for _, c := range []struct {
		name    string
		faults  []haproxytest.Fault // of the runtime's, show proc's and the old worker's exchange
		want    int                 // where the fault lasts
		once    int                 // where it does not: the master starts itself again
		oldGone bool
	}{
		{"asked and answered", nil, 3, 3, false},
		{"no list of workers", []haproxytest.Fault{0, haproxytest.CloseEarly}, 1, 3, false},
		{"a list that is none", []haproxytest.Fault{0, haproxytest.Garbage}, 1, 3, false},
		{"half a list", []haproxytest.Fault{0, haproxytest.HalfReply}, 1, 3, false},
		{"an old worker that does not answer", []haproxytest.Fault{0, 0, haproxytest.Refuse}, 1, 3, false},
		{"an old worker that answers half", []haproxytest.Fault{0, 0, haproxytest.HalfReply}, 1, 3, false},
		{"an old worker that hangs", []haproxytest.Fault{0, 0, haproxytest.Hang}, 1, 1, false},
		{"no old worker", nil, 0, 0, true},
	} {
		for _, lasts := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, lasting %v", c.name, lasts), func(t *testing.T) {
				f := newFake(t, haproxytest.V30, maint)
				if !c.oldGone {
					f.AddOldWorker(old())
				}
				// What lasts is tried again for that long.
				s := subject{client: newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), Timeout: time.Second})}
				s.client.countWait = time.Minute // how long it takes is not what is tried here
				s.observe(t)                     // it knows the HAProxy, and so a master that is gone
				want, faults := c.once, c.faults
				if lasts && len(faults) > 0 {
					want, faults = c.want, append(slices.Clone(faults), slices.Repeat(faults[len(faults)-1:], 2000)...)
					s.client.transition(&s.client.masterGone, true) // else it is waited for
				}
				f.Fail(faults...)
				servers := s.observe(t, "api").Backends["api"].Servers
				if got := servers[0].Sessions; got != want {
					t.Errorf("in maint: got %d sessions, want %d", got, want)
				}
				if got := servers[1].Sessions; got != 0 {
					t.Errorf("ready: got %d sessions, want 0", got)
				}
			})
		}
	}
}

// A master of 3.0 to 3.4 never closes the connection, now and then, and no
// longer answers anybody after ten of them.
func TestTheMasterSurvivesQuestionsForWorkersThatHaveEnded(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend api\n  server one 127.0.0.1:9 disabled\n")
	s := newSubject(t, p.Runtime(), p.Master())
	for range 100 {
		sessions, err := s.client.sessionsIn(t.Context(), 1, []string{"api"})
		if err != nil || len(sessions) != 0 {
			t.Fatalf("got %v, %v; want none", sessions, err)
		}
	}
	if _, err := s.client.OldWorkers(t.Context()); err != nil {
		t.Error(err)
	}
}

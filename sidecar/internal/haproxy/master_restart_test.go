package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// reloadByHand reloads as an operator does, by signals to the master, one reload
// after the other until stop is called. It gives how many there were.
func reloadByHand(t *testing.T, p *haproxytest.Process) (stop func() int) {
	t.Helper()
	reloads := 0
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			before, _ := p.Worker()
			if err := syscall.Kill(p.MasterPID(), syscall.SIGUSR2); err != nil {
				t.Error(err)
				return
			}
			reloads++
			time.Sleep(100 * time.Millisecond) // else no other reload comes in between
			// A signal that comes in the moment of a restart is lost.
			for i, now := 0, before; now == before && i < 10; i++ {
				select {
				case <-end:
					return
				case <-time.After(50 * time.Millisecond):
				}
				now, _ = p.Worker()
			}
		}
	})
	stop = sync.OnceValue(func() int {
		close(end)
		wg.Wait()
		return reloads
	})
	t.Cleanup(func() { stop() })
	return stop
}

// While the master starts itself again, on each reload, its socket refuses
// connections, and ends some without an answer (2.6 to 3.4). An old worker is
// not gone for that.
func TestMasterRestart_OldWorkersAsked_AllAreCounted(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server one %s\n", node.Addr())))
	var log bytes.Buffer
	c := newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master(), Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})})
	s := subject{client: c}
	hold(t, front)
	haproxytest.Until(t, "the request is held", func() bool { return s.observe(t, "api").Backends["api"].Servers[0].Sessions == 1 })
	holds, err := p.Worker()
	if err != nil {
		t.Fatal(err)
	}
	p.WriteConfig(heldConfig(front, fmt.Sprintf("  server one %s disabled\n  server slot-2 127.0.0.1:1 disabled\n", node.Addr())))
	p.Reload()

	stop := reloadByHand(t, p)
	asked, uncounted := 0, 0
	for began := time.Now(); time.Since(began) < 3*time.Second; asked++ {
		workers, err := c.OldWorkers(t.Context())
		if err != nil || !slices.Contains(workers, holds) {
			t.Fatalf("OldWorkers, try %d: got %v, %v; want worker %d among them", asked, workers, err, holds)
		}
		o, err := c.Observe(t.Context(), []string{"api"})
		if err != nil {
			t.Fatalf("Observe, try %d: %v", asked, err)
		}
		one, slot := o.Backends["api"].Servers[0], o.Backends["api"].Servers[1]
		switch {
		case one.Sessions != 1:
			t.Fatalf("Observe, try %d: got %d sessions on the server, want 1", asked, one.Sessions)
		case slot.Uncounted && slot.Sessions > 0: // unknown is not zero
			uncounted++
		case slot.Sessions != 0:
			t.Fatalf("Observe, try %d: got %d sessions on a free slot, want none", asked, slot.Sessions)
		}
		traffic, err := c.Traffic(t.Context(), []string{"api"})
		if err != nil || traffic.UnderWay != 1 {
			t.Fatalf("Traffic, try %d: got %+v, %v; want one request under way", asked, traffic, err)
		}
		if err := c.Probe(t.Context()); err != nil {
			t.Fatalf("Probe, try %d: %v", asked, err)
		}
	}
	t.Logf("asked %d times during %d reloads, %d without a count", asked, stop(), uncounted)
	if uncounted == asked {
		t.Error("no count was ever there")
	}
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", log.String())
	}
}

// Observe does not wait for a master that starts itself again, nor for an old worker
// that hangs: an unfinished count is unknown. The count comes with a later call.
func TestObserve_MasterRestartsAndOldWorkerHangs_DoesNotWait(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	config := func(disabled string) string {
		return heldConfig(front, fmt.Sprintf("  server one %s%s\n", node.Addr(), disabled))
	}
	p := haproxytest.Start(t, config(""))
	s := subject{client: newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master()})}
	hold(t, front)
	haproxytest.Until(t, "the request is held", func() bool { return s.observe(t, "api").Backends["api"].Servers[0].Sessions == 1 })
	old, err := p.Worker()
	if err != nil {
		t.Fatal(err)
	}
	p.WriteConfig(config(" disabled"))
	p.Reload()
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(old, syscall.SIGCONT) }()
	for range 5 {
		began := time.Now()
		got := s.observe(t, "api").Backends["api"].Servers[0]
		if took := time.Since(began); took > time.Second {
			t.Errorf("Observe took %s", took)
		}
		if !got.Uncounted || got.Sessions == 0 {
			t.Errorf("beside a hanging old worker: got %d sessions, uncounted %v; want them unknown", got.Sessions, got.Uncounted)
		}
	}
	if err := syscall.Kill(old, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	haproxytest.Until(t, "the old worker's session is counted", func() bool {
		got := s.observe(t, "api").Backends["api"].Servers[0]
		return !got.Uncounted && got.Sessions == 1
	})
}

func TestMasterRestart_ReloadRequested_Succeeds(t *testing.T) {
	t.Parallel()
	p, s := startMarked(t, "backend api\n")
	stop := reloadByHand(t, p)
	for i := range 12 {
		want := []plan.Marker{otherMark, testMark}[i%2]
		p.WriteConfig(markedFile(p, want, "backend api\n"))
		if err := s.client.Reload(t.Context(), want); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
	}
	t.Logf("during %d other reloads", stop())
}

// A request in an old worker is ended while the master starts itself again.
func TestMasterRestart_SessionsShutDown_NoError(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server one %s\n", node.Addr())))
	s := newSubject(t, p.Runtime(), p.Master())
	hold(t, front)
	haproxytest.Until(t, "the request is held", func() bool { return s.observe(t, "api").Backends["api"].Servers[0].Sessions == 1 })
	holds, err := p.Worker()
	if err != nil {
		t.Fatal(err)
	}
	p.Reload()
	stop := reloadByHand(t, p)
	step := plan.Step{Kind: plan.Shutdown, Backend: "api", Server: "one", Addr: node.Addr()}
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		// The current worker may have become an old one between two questions.
		if err := s.client.Apply(t.Context(), []plan.Step{step})[0]; err != nil && !strings.HasSuffix(err.Error(), `"Proxy is disabled."`) {
			t.Fatal(err)
		}
	}
	stop()
	haproxytest.Until(t, "the old worker has ended", func() bool {
		workers, err := s.client.OldWorkers(t.Context())
		return err == nil && !slices.Contains(workers, holds)
	})
}

// Since 3.1 the runtime socket stays dead after a reload that could not bind,
// and the worker is reached by the master only. It still serves in the moment
// in which the next reload has the master start itself again.
func TestMasterRestart_RuntimeSocketDead_HAProxyStillRuns(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p, s := startMarked(t, "backend api\n")
	p.WriteConfig(markedFile(p, otherMark, "backend api\nfrontend f\n  bind "+taken.Addr().String()+"\n"))
	reload := func() {
		if err := syscall.Kill(p.MasterPID(), syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	haproxytest.Until(t, "it has failed", func() bool {
		now, err := s.client.showProc(t.Context())
		return err == nil && now.failed > 0
	})
	for i := range 2 {
		reload()
		for began := time.Now(); time.Since(began) < time.Second; {
			if _, err := s.client.Observe(t.Context(), nil); errors.Is(err, plan.ErrNotRunning) {
				t.Fatalf("reload %d: %v after %s", i, err, time.Since(began))
			}
		}
		haproxytest.Until(t, "it has failed too", func() bool {
			now, err := s.client.showProc(t.Context())
			return err == nil && now.reloads > i+1
		})
	}
}

// A list of workers that breaks off has fewer of them than there are.
func TestShowProc_ListBreaksOff_IsAnError(t *testing.T) {
	t.Parallel()
	whole := "#<PID> <type> <reloads> <uptime> <version>\n1 master 2 [failed: 0] 0d00h00m01s 3.4\n# workers\n4 worker 0 0d00h00m01s 3.4\n" +
		"# old workers\n3 worker 1 0d00h00m01s 3.4\n2 worker 2 0d00h00m01s 3.4\n\n"
	if p, err := parseProc(whole); err != nil || len(p.old) != 2 {
		t.Fatalf("got %+v, %v", p, err)
	}
	beforeWorker, _, _ := strings.Cut(whole, "2 worker")
	beforeOld, _, _ := strings.Cut(whole, "# old")
	for _, cut := range []string{strings.TrimSuffix(whole, "\n"), beforeWorker, beforeOld} {
		if p, err := parseProc(cut); !errors.Is(err, ErrUnexpectedReply) {
			t.Errorf("%q: got %+v, %v; want an error", cut, p, err)
		}
	}
}

// A reload that is lost in the master's restart for another one, which loaded
// the file before ours, is requested again.
func TestMasterRestart_ReloadLineLost_IsSentAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V30, nil)
	reloads := 0
	f.OnReload(func(now haproxytest.FakeWorker) (*haproxytest.FakeWorker, string) {
		reloads++
		next := now.Again()
		if reloads > 1 {
			next.Marker = otherMark.String()
		}
		return next, ""
	})
	c := newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master()})
	f.Fail(0, 0, haproxytest.LostReply) // who runs, which processes, reload
	if err := c.Reload(t.Context(), otherMark); err != nil || reloads != 2 {
		t.Errorf("got %v after %d reloads, want none after 2", err, reloads)
	}
}

// HAProxy 3.1 and newer refuse a reload while the worker of another one starts.
func TestReload_AnotherIsInProgress_IsRequestedAgain(t *testing.T) {
	t.Parallel()
	const busy = "Success=0\n--\nAnother reload is still in progress.\n"
	c := cannedClient(t, "3.4.7", busy, busy, "Success=1\n--\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if reply, err := c.sendReload(ctx); err != nil || reply != "Success=1\n--\n" {
		t.Errorf("got %q, %v", reply, err)
	}
}

func TestOldWorkers_ReloadBetweenTheQuestions_ServingOneIsOld(t *testing.T) {
	t.Parallel()
	const master = "#<PID> <type> <reloads> <uptime> <version>\n1 master 1 [failed: %d] 0d00h00m01s 3.4\n# workers\n%s# old workers\n3 worker 1 0d00h00m01s 3.4\n\n"
	const info = "Pid: 3\nVersion: 3.4.7\n\n"
	reloaded := cannedClient(t, "3.4.7", info, fmt.Sprintf(master, 0, "4 worker 0 0d00h00m00s 3.4\n"))
	if old, err := reloaded.OldWorkers(t.Context()); err != nil || !slices.Contains(old, 3) {
		t.Errorf("a reload in between: got %v, %v; want worker 3", old, err)
	}
	failed := cannedClient(t, "3.4.7", info, fmt.Sprintf(master, 1, ""))
	if old, err := failed.OldWorkers(t.Context()); err != nil || len(old) > 0 {
		t.Errorf("a reload that failed: got %v, %v; want none", old, err)
	}
}

// A master that is gone is waited for once, not at each question.
func TestMasterGone_AskedTwice_WaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestClient(t, Options{Runtime: "/r", Master: "/m"})
		refused := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		c.dial = dialResults(map[string]error{"/r": refused, "/m": refused})
		took := func(ask func()) time.Duration {
			began := time.Now()
			ask()
			return time.Since(began)
		}
		master := func() {
			if _, err := c.awaitMaster(t.Context()); !errors.Is(err, ErrConnRefused) || errors.Is(err, plan.ErrNotRunning) {
				t.Errorf("got %v", err)
			}
		}
		worker := func() {
			if _, err := c.Observe(t.Context(), nil); !errors.Is(err, plan.ErrNotRunning) {
				t.Errorf("got %v", err)
			}
		}
		if got := took(worker); got != 0 {
			t.Errorf("a HAProxy that was never seen: took %s, want no wait", got)
		}
		c.learn(info{pid: 7, version: "3.4.7"})
		if got := took(worker); got < workerGrace || got > workerGrace+time.Second {
			t.Errorf("a HAProxy that ends: took %s, want about %s", got, workerGrace)
		}
		if got := took(worker) + took(master); got != 0 {
			t.Errorf("after that: took %s, want no wait", got)
		}
		c.learn(info{pid: 8, version: "3.4.7"})
		if got := took(master); got < restartGrace || got > restartGrace+time.Second {
			t.Errorf("a master that ends: took %s, want about %s", got, restartGrace)
		}
	})
}

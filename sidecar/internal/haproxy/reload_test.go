package haproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/test/compat"
)

var otherMark = plan.Marker{Template: "dd", Services: "ee", Settings: "ff"}

// markedFile is a whole file with its marker, so that a reload can change it.
func markedFile(p *haproxytest.Process, m plan.Marker, rest string) string {
	return fmt.Sprintf("global\n  stats socket %s mode 600 level admin\n  setenv %s %s\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 9s\n  timeout server 9s\n%s",
		p.Runtime(), plan.MarkerVariable, m, rest)
}

func startMarked(t *testing.T, rest string) (*haproxytest.Process, subject) {
	t.Helper()
	p := haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
	p.WriteConfig(markedFile(p, testMark, rest))
	p.Launch()
	return p, newSubject(t, p.Runtime(), p.Master())
}

func TestAReloadIsDoneOnceANewWorkerRunsWhatIsWanted(t *testing.T) {
	t.Parallel()
	p, s := startMarked(t, "backend api\n")
	for i, want := range []plan.Marker{otherMark, testMark, testMark} {
		before := s.observe(t)
		p.WriteConfig(markedFile(p, want, "backend api\nbackend more\n"))
		if err := s.client.Reload(t.Context(), want); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
		after := s.observe(t, "more")
		if after.PID == before.PID || after.Marker != want || len(after.Backends) != 1 {
			t.Errorf("reload %d: got %+v after %+v", i, after, before)
		}
	}
}

func TestReload_FileThatHAProxyRefuses_FailsSoonAndTheWorkerStays(t *testing.T) {
	t.Parallel()
	p, s := startMarked(t, "backend api\n")
	before := s.observe(t)
	p.WriteConfig(markedFile(p, otherMark, "backend api\n  nonsense here\n"))
	for range 2 { // the second fails as the first does
		began := time.Now()
		err := s.client.Reload(t.Context(), otherMark)
		var failed *ReloadError
		if !errors.As(err, &failed) || errors.Is(err, plan.ErrNotRunning) {
			t.Fatalf("got %v, want a *ReloadError", err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("it took %s to tell", took)
		}
		if s.dynamic && !strings.Contains(err.Error(), "nonsense") {
			t.Errorf("got %q, want HAProxy's own words in it", err)
		}
		if got := s.observe(t); got.PID != before.PID || got.Marker != testMark {
			t.Errorf("got %+v, want the worker of before, %+v", got, before)
		}
	}
	p.WriteConfig(markedFile(p, otherMark, "backend api\n"))
	if err := s.client.Reload(t.Context(), otherMark); err != nil {
		t.Errorf("a good file after bad ones: %v", err)
	}
}

func TestAPortThatIsTakenFailsTheReloadAndTheWorkerCanBeReached(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p, s := startMarked(t, "backend api\n  server one 127.0.0.1:9\n")
	before := s.observe(t)
	p.WriteConfig(markedFile(p, otherMark, "backend api\n  server one 127.0.0.1:9\nfrontend f\n  bind "+taken.Addr().String()+"\n"))
	byCommand := newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master(), ReloadCommand: []string{"kill", "-USR2", fmt.Sprint(p.MasterPID())}})
	for way, client := range map[string]*Client{"the master socket": s.client, "a command": byCommand} {
		began := time.Now()
		err := client.Reload(t.Context(), otherMark)
		failed, ok := errors.AsType[*ReloadError](err)
		if !ok || !errors.Is(err, plan.ErrListen) || time.Since(began) > 8*time.Second {
			t.Fatalf("by %s: got %v after %s, want a *ReloadError that says that it cannot listen", way, err, time.Since(began))
		}
		// 2.6 tells its log only.
		if s.dynamic && (!strings.Contains(err.Error(), "(Address already in use) for ["+taken.Addr().String()) || !strings.Contains(failed.Words(), "for frontend f:")) {
			t.Errorf("by %s: got %q, want HAProxy's own words in it", way, err)
		}
	}
	if got := s.observe(t); got.PID != before.PID || got.Marker != testMark {
		t.Errorf("got %+v, want the worker of before, %+v", got, before)
	}
	// On 3.1 and newer its runtime socket is dead now: this goes by the master.
	if err := s.client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}})[0]; err != nil {
		t.Error(err)
	}
	p.WriteConfig(markedFile(p, otherMark, "backend api\n"))
	if err := s.client.Reload(t.Context(), otherMark); err != nil {
		t.Fatalf("a good file after it: %v", err)
	}
	if err := s.client.Probe(t.Context()); err != nil {
		t.Errorf("after a good reload: %v", err)
	}
}

func TestAWorkerThatRunsSomethingElseIsNoSuccess(t *testing.T) {
	t.Parallel()
	_, s := startMarked(t, "backend api\n")
	err := s.client.Reload(t.Context(), otherMark)
	if !strings.Contains(errText(err), "runs 1.aa.bb.cc, expected 1.dd.ee.ff") {
		t.Errorf("got %v", err)
	}
}

func TestAReloadByCommandIsProvedLikeAnother(t *testing.T) {
	t.Parallel()
	p, s := startMarked(t, "backend api\n")
	byCommand := func(argv ...string) error {
		return newTestClient(t, Options{Runtime: p.Runtime(), ReloadCommand: argv, ReloadTimeout: 3 * time.Second}).Reload(t.Context(), otherMark)
	}
	before := s.observe(t)
	if err := byCommand("sh", "-c", "echo no such unit >&2; exit 5"); !strings.Contains(errText(err), "exit status 5: no such unit") {
		t.Errorf("a command that fails: got %v", err)
	}
	if err := byCommand("no-such-program-anywhere"); !strings.Contains(errText(err), "no-such-program-anywhere") {
		t.Errorf("a command that is not there: got %v", err)
	}
	if err := byCommand("true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that does nothing: got %v", err)
	}
	if err := byCommand("sleep", "100"); err == nil {
		t.Error("a command that does not end: got no error")
	}
	p.WriteConfig(markedFile(p, otherMark, "backend api\n"))
	if err := byCommand("kill", "-USR2", fmt.Sprint(p.MasterPID())); err != nil {
		t.Errorf("a command that works: got %v", err)
	}
	if got := s.observe(t); got.PID == before.PID || got.Marker != otherMark {
		t.Errorf("got %+v", got)
	}
}

func TestTwoReloadsNeverOverlap(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, nil)
	var now, most atomic.Int32
	f.OnReload(func(w haproxytest.FakeWorker) (*haproxytest.FakeWorker, string) { return w.Again(), "" })
	c := newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master()})
	dial := c.dial
	c.dial = func(ctx context.Context, e endpoint) (net.Conn, error) {
		defer now.Add(-1)
		most.Store(max(most.Load(), now.Add(1)))
		return dial(ctx, e)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := c.Reload(t.Context(), testMark); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := most.Load(); got != 1 {
		t.Errorf("got %d exchanges at once, want 1", got)
	}
}

func TestAReloadThatWaitsForAnotherEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newTestClient(t, Options{Runtime: "/nowhere/r", Master: "/nowhere/m"})
	c.reloading <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Reload(ctx, testMark); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAMasterThatFailsSilentlyIsFoundOutByItsCount(t *testing.T) {
	t.Parallel()
	for _, profile := range []haproxytest.Profile{haproxytest.V26, haproxytest.V30, haproxytest.V34} {
		f := newFake(t, profile, nil)
		f.OnReload(func(haproxytest.FakeWorker) (*haproxytest.FakeWorker, string) {
			return nil, "[NOTICE] x\n[ALERT] config: bad\n"
		})
		c := newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), ReloadTimeout: 3 * time.Second})
		for range 2 {
			err := c.Reload(t.Context(), testMark)
			var failed *ReloadError
			if !errors.As(err, &failed) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v", profile.Version, err)
			}
			if profile.SyncReload && !strings.HasSuffix(errText(err), "[ALERT] config: bad") {
				t.Errorf("%s: got %v, want the alert in it", profile.Version, err)
			}
		}
		f.OnReload(nil)
		if err := c.Reload(t.Context(), testMark); err != nil {
			t.Errorf("%s: a good one after it: %v", profile.Version, err)
		}
	}
}

// HAProxy 3.2 and 3.4 crash, the workers with the master, when they are to
// load a file that is not there; 2.6 and 3.0 refuse it.
func TestAReloadOfAMissingFileFailsSoon(t *testing.T) {
	t.Parallel()
	p, s := startMarked(t, "backend api\n")
	if err := os.Remove(p.ConfigFile()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := s.client.Reload(t.Context(), otherMark)
	if _, ok := errors.AsType[*ReloadError](err); !ok || time.Since(began) > goneGrace+3*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
	_, gone := s.client.Observe(t.Context(), nil)
	compat.HAProxy(t, "a reload of a file that is not there", map[bool]string{
		true: "ends HAProxy; no reload is sent without a look at the file", false: "fails, previous configuration still active",
	}[errors.Is(gone, plan.ErrNotRunning)])
	if got := errors.Is(err, plan.ErrNotRunning); got != errors.Is(gone, plan.ErrNotRunning) {
		t.Errorf("the reload says that HAProxy has ended: %v; afterwards: %v", got, gone)
	}
}

func TestAReloadSurvivesALostAnswerOfTheMaster(t *testing.T) {
	t.Parallel()
	for _, fault := range []haproxytest.Fault{haproxytest.LostReply, haproxytest.HalfReply} {
		f := newFake(t, haproxytest.V34, nil)
		c := newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), ReloadTimeout: 3 * time.Second})
		f.Fail(0, 0, fault) // who runs, which processes, reload
		if err := c.Reload(t.Context(), testMark); err != nil {
			t.Errorf("%s: got %v", fault, err)
		}
	}
}

func TestAReloadNeedsAWay(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, nil)
	err := newTestClient(t, Options{Runtime: f.Runtime()}).Reload(t.Context(), testMark)
	if !strings.Contains(errText(err), "no master socket or reload command is set") {
		t.Errorf("got %v", err)
	}
}

func TestALogIsCutAndPrintable(t *testing.T) {
	t.Parallel()
	lines := logLines(strings.Repeat("x\x1b[2J"+strings.Repeat("y", 1000)+"\n", 200))
	if len(lines) != maxLog+1 || len(lines[0]) > maxLogLine+len("…") || strings.ContainsRune(lines[0], 0x1b) {
		t.Errorf("got %d lines, the first of %d bytes: %q", len(lines), len(lines[0]), lines[0][:20])
	}
}

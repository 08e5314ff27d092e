package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// An operator's haproxy.cfg stays as it is; the sidecar writes a second file with
// its backends, which HAProxy loads after it.
func TestInclude_OperatorsFileStays_ServicesFollowConsul(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes", BackendOnly: true})
	port, err := w.Port()
	w.must(err)
	base := w.lb.Path("haproxy.cfg")
	theirs := fmt.Sprintf(`global
    stats socket %s mode 660 level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:%d
    acl own path_beg /own
    http-request return status 200 content-type text/plain string own if own
    default_backend api_nodes
`, w.lb.Socket(), port)
	w.must(os.WriteFile(base, []byte(theirs), 0o644))
	w.must(w.lb.SetConfig("pointsman.cfg"))
	w.must(w.lb.SetHAProxy(fmt.Sprintf("  base_config: %s\n", base)))

	check := func(code int, want ...string) {
		t.Helper()
		out, got := sidecar(t, nil, "check", "--config", w.lb.Settings())
		if got != code {
			t.Errorf("check: exit code %d, want %d", got, code)
		}
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("the output has no %q:\n%s", text, out)
			}
		}
	}
	check(1, "ok    base_config", "global: hard-stop-after 30s\n", "frontend site: option idle-close-on-response\n", "ok    takeover", "FAIL  haproxy ")
	w.must(os.WriteFile(base, []byte(theirs+"    nonsense here\n"), 0o644))
	check(1, "FAIL  base_config", "HAProxy rejects your own "+base, "nonsense", "ok    template")
	w.must(os.WriteFile(base, []byte(strings.Replace(theirs, "default_backend api_nodes", "default_backend misspelt", 1)), 0o644))
	check(1, "FAIL  base_config", "HAProxy rejects your own "+base, "misspelt", "ok    template")
	w.must(os.WriteFile(base, []byte(theirs), 0o644))

	if out, code := sidecar(t, nil, "render", "--write", "--config", w.lb.Settings()); code != 0 {
		t.Fatalf("render --write: exit code %d:\n%s", code, out)
	}
	w.lb.HAProxy, err = w.Start("haproxy", programs.HAProxy, "-W", "-S", w.lb.Master(), "-f", base, "-f", w.lb.Config())
	w.must(err)
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.nodes = w.startNodes("1.0", "n", 2)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	w.must(w.Get(w.ctx, url, 5*time.Second))

	// A reload loads both: a service comes, and what was there stays.
	w.must(w.lb.SetServices(append(w.lb.Services(), lab.Service{Name: "other", BackendOnly: true})...))
	w.must(w.lb.Reread())
	w.reloaded(15*time.Second, 1)
	w.must(w.Get(w.ctx, url, 5*time.Second))
	w.must(w.Get(w.ctx, url+"own", 5*time.Second))
	if now, err := os.ReadFile(base); err != nil || string(now) != theirs {
		t.Errorf("the operator's file was changed (%v):\n%s", err, now)
	}
	ours, err := os.ReadFile(w.lb.Config())
	w.must(err)
	for line := range strings.SplitSeq(string(ours), "\n") {
		if strings.HasPrefix(line, "frontend ") && !strings.HasPrefix(line, "frontend pointsman.") || strings.Contains(line, "stats socket") {
			t.Errorf("pointsman.cfg has %q", line)
		}
	}
}

// A HAProxy that does not load the sidecar's file is not reloaded, which would
// not help, and not changed.
func TestInclude_HAProxyWithoutTheSecondFile_NothingChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	base := s.lb.Path("haproxy.cfg")
	s.must(s.lb.SetConfig("pointsman.cfg"))
	s.must(s.lb.SetServices(lab.Service{Name: service, Backend: "ours", BackendOnly: true}))
	s.must(s.lb.SetHAProxy(fmt.Sprintf("  base_config: %s\n", base)))
	s.must(os.WriteFile(base, []byte(s.file), 0o644))
	var err error
	s.lb.HAProxy, err = s.Start("haproxy", programs.HAProxy, "-W", "-S", s.lb.Master(), "-f", base)
	s.must(err)
	s.must(lab.Until(s.ctx, 10*time.Second, "HAProxy answers", s.served))
	waits := func(times int) {
		t.Helper()
		pid := s.workerPID()
		s.must(lab.Until(s.ctx, 15*time.Second, "the sidecar says why it waits", func() error {
			if log := s.lb.Sidecar.Tail(50); strings.Count(log, "error=\"HAProxy runs without "+s.lb.Config()) < times {
				return fmt.Errorf("it logs:\n%s", log)
			}
			return nil
		}))
		if got := s.workerPID(); got != pid {
			t.Errorf("HAProxy's worker is %d, was %d: it was reloaded", got, pid)
		}
	}
	if out, code := sidecar(t, nil, "check", "--config", s.lb.Settings()); code != 1 || !strings.Contains(out, "FAIL  haproxy      HAProxy runs without "+s.lb.Config()) {
		t.Errorf("check: exit code %d, want 1 and what HAProxy lacks:\n%s", code, out)
	}
	if out, code := sidecar(t, nil, "plan", "--config", s.lb.Settings()); code != 1 || !strings.Contains(out, "HAProxy runs without "+s.lb.Config()) {
		t.Errorf("plan: exit code %d, want 1 and what HAProxy lacks:\n%s", code, out)
	}
	s.must(s.lb.StartSidecar())
	waits(1)

	// It is started as it should be, and later without the file again.
	if out, code := sidecar(t, nil, "render", "--write", "--config", s.lb.Settings()); code != 0 {
		t.Fatalf("render --write: exit code %d:\n%s", code, out)
	}
	restart := func(args ...string) {
		t.Helper()
		// A master that executes itself once more, after it has started the worker, is killed
		// by a signal.
		s.must(lab.Until(s.ctx, 10*time.Second, "the master answers", func() error {
			_, err := s.lb.OldWorkers(s.ctx)
			return err
		}))
		s.must(s.lb.HAProxy.Stop(10 * time.Second))
		s.lb.HAProxy, err = s.Start("haproxy", programs.HAProxy, append([]string{"-W", "-S", s.lb.Master(), "-f", base}, args...)...)
		s.must(err)
		s.must(lab.Until(s.ctx, 10*time.Second, "HAProxy answers", s.served))
	}
	restart("-f", s.lb.Config())
	s.must(s.lb.Ready(s.ctx, 15*time.Second))
	restart()
	waits(2)
}

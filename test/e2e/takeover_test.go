package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// site is a load balancer whose HAProxy serves a site of the operator's own.
type site struct {
	*world
	file string // the operator's haproxy.cfg
	url  string
}

// newSite writes an operator's haproxy.cfg; nothing is started but Consul.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{world: bareWorld(t)}
	s.newBalancer(lab.Service{Name: service, Backend: "api_nodes"}, lab.Service{Name: "other"})
	port, err := s.Port()
	s.must(err)
	s.url = fmt.Sprintf("http://127.0.0.1:%d/", port)
	s.file = fmt.Sprintf(`global
    stats socket %s mode 660 level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:%d
    default_backend site_nodes
backend site_nodes
    http-request return status 200 content-type text/plain string "{\"instance\":\"the site\"}"
backend api_nodes
    server static 127.0.0.1:9
listen numbers
    bind %s
    stats enable
`, s.lb.Socket(), port, s.lb.Path("numbers.sock"))
	return s
}

// served reports whether the operator's site answers.
func (s *site) served() error {
	return s.Get(s.ctx, s.url, time.Second)
}

// unchanged fails the test unless the operator's HAProxy and file are as they were.
func (s *site) unchanged(pid int) {
	s.Helper()
	if got := s.workerPID(); got != pid {
		s.Errorf("HAProxy's worker is %d, was %d: it was reloaded", got, pid)
	}
	if err := s.served(); err != nil {
		s.Errorf("the site: %v", err)
	}
	if now, err := os.ReadFile(s.lb.Config()); err != nil || string(now) != s.file {
		s.Errorf("haproxy.cfg was changed (%v):\n%s", err, now)
	}
}

// refused runs a command that must refuse, and name all that would go away.
func (s *site) refused(code int, where string, args ...string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 15*time.Second) // a run that does not refuse goes on
	defer cancel()
	cmd := exec.CommandContext(ctx, programs.Sidecar, append(args, "--config", s.lb.Settings())...)
	output, _ := cmd.CombinedOutput() // the exit code tells
	out, got := string(output), cmd.ProcessState.ExitCode()
	if got != code {
		s.Fatalf("%q: exit code %d, want %d:\n%s", args, got, code, out)
	}
	for _, want := range []string{
		where, "would go away: frontend site, backend site_nodes, listen numbers\n", "would be replaced: backend api_nodes\n",
		"--adopt", "haproxy.base_config", "haproxy.config",
	} {
		if !strings.Contains(out, want) {
			s.Errorf("%q: the output has no %q:\n%s", args, want, out)
		}
	}
}

func TestTakeover_ForeignFileAndProcess_RefusedUntilAdopt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(os.WriteFile(s.lb.Config(), []byte(s.file), 0o644))
	s.must(s.lb.StartHAProxy(s.ctx))
	pid := s.workerPID()

	s.refused(1, "file "+s.lb.Config()+", process ", "check")
	s.refused(2, "file "+s.lb.Config()+", process ", "run")
	s.refused(2, "file "+s.lb.Config()+"\n", "render", "--write")
	s.refused(0, "pointsman run refuses this plan: HAProxy serves what", "plan")
	if out, code := sidecar(t, nil, "plan", "--json", "--config", s.lb.Settings()); code != 0 || !strings.Contains(out, `"refused": "HAProxy serves what`) {
		t.Errorf("plan --json: exit code %d, want that run refuses in\n%s", code, out)
	}
	s.unchanged(pid)

	// The process alone is enough to refuse: its file has gone.
	s.must(os.Remove(s.lb.Config()))
	s.refused(2, "pointsman: HAProxy serves what Pointsman did not write: process ", "run")
	if _, err := os.Stat(s.lb.Config()); !os.IsNotExist(err) {
		t.Errorf("haproxy.cfg was written: %v", err)
	}
	s.must(os.WriteFile(s.lb.Config(), []byte(s.file), 0o644))
	s.unchanged(pid)

	if out, code := sidecar(t, nil, "check", "--adopt", "--config", s.lb.Settings()); code != 0 || !strings.Contains(out, "would go away: frontend site") {
		t.Errorf("check --adopt: exit code %d:\n%s", code, out)
	}
	var err error
	s.lb.Sidecar, err = s.Start("adopting", programs.Sidecar, "run", "--adopt", "--config", s.lb.Settings())
	s.must(err)
	s.must(s.lb.Ready(s.ctx, 15*time.Second))
	s.reloaded(15*time.Second, 1)
	s.must(lab.Until(s.ctx, 10*time.Second, "the site is gone", func() error {
		if s.served() == nil {
			return fmt.Errorf("%s answers", s.url)
		}
		return nil
	}))
	if kept, err := os.ReadFile(s.lb.Config() + ".before-pointsman"); err != nil || string(kept) != s.file {
		t.Errorf("the operator's file was not kept (%v):\n%s", err, kept)
	}

	// From now on HAProxy is ours, also with a service less.
	s.must(s.lb.Sidecar.Stop(10 * time.Second))
	s.must(s.lb.SetServices(s.lb.Services()[0]))
	if out, code := sidecar(t, nil, "check", "--config", s.lb.Settings()); code != 0 {
		t.Errorf("check: exit code %d:\n%s", code, out)
	}
	s.must(s.lb.StartSidecar())
	s.must(s.lb.Ready(s.ctx, 15*time.Second))
	s.reloaded(15*time.Second, 1)
}

// A HAProxy that begins to answer after the sidecar's start is no more its own.
func TestTakeover_ForeignProcessStartsLater_NothingChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(s.lb.StartSidecar())
	s.must(lab.Until(s.ctx, 15*time.Second, "the sidecar has written its file", func() error {
		_, err := os.Stat(s.lb.Config())
		return err
	}))
	s.must(os.WriteFile(s.lb.Config(), []byte(s.file), 0o644))
	s.must(s.lb.StartHAProxy(s.ctx))
	pid := s.workerPID()
	s.logged("HAProxy serves what Pointsman did not write")
	s.unchanged(pid)
}

// A package's own haproxy.cfg without frontends and backends is nothing to lose.
func TestTakeover_FileThatServesNothing_Taken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	head, _, _ := strings.Cut(s.file, "frontend")
	s.must(os.WriteFile(s.lb.Config(), []byte(head), 0o644))
	s.must(s.lb.Start(s.ctx))
}

// A server of the operator's without a health check serves an instance until the reload
// brings ours. Until then HAProxy refuses to check it, and that is no fault to warn of.
func TestTakeover_ServerWithoutCheck_AdoptedWithoutWarning(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	node, err := s.StartNode(s.ctx, s.consul, service, "n0", "1.0")
	s.must(err)
	s.must(node.Registered(s.ctx, 20*time.Second, "passing"))
	s.file = strings.Replace(s.file, "server static 127.0.0.1:9\n", "server static "+node.Addr()+"\n", 1)
	s.must(os.WriteFile(s.lb.Config(), []byte(s.file), 0o644))
	s.must(s.lb.StartHAProxy(s.ctx))
	s.lb.Sidecar, err = s.Start("adopting", programs.Sidecar, "run", "--adopt", "--config", s.lb.Settings())
	s.must(err)
	s.must(s.lb.Ready(s.ctx, 15*time.Second))
	s.reloaded(15*time.Second, 1)
	s.must(s.lb.Routes(s.ctx, 20*time.Second, service, node.Name))
	for line := range strings.Lines(s.lb.Sidecar.Tail(1000)) {
		if strings.Contains(line, "enable_health") {
			t.Errorf("it logs %s", line)
		}
	}
}

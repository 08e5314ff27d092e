package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/history"
)

// about is another command about the scene's deployments.
func (s *deployScene) about(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code = Run(s.t.Context(), Env{
		Args:    append([]string{"deploy"}, append(args, "--config", settingsFile(s.t, ""), "--consul-address", s.consul.Address())...),
		Environ: []string{"PATH=" + os.Getenv("PATH")}, Hostname: "h", Stdout: &out, Stderr: &errs,
	})
	return code, out.String(), errs.String()
}

func (s *deployScene) book() *history.Book {
	s.t.Helper()
	cfg := config.Config{}
	cfg.Consul.Address, cfg.Consul.Wait = s.consul.Address(), time.Minute
	book, err := daemon.NewBook(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(book.KV.Close)
	return book
}

func TestDeploy_AnotherIsUnderWay_ExitsLockedAndDoesNothing(t *testing.T) {
	s := newDeployScene(t, api.Access{})
	s.node("api-0", "1.0")
	_, other, err := s.book().Begin(t.Context(), history.Deployment{ID: "x", Service: "api", Version: "1.2", By: "ann@b1", Started: noon})
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := s.run(nil, "--start", "exit 3", "--stop", "true")
	want := `pointsman: deploy api: another deployment is under way: version "1.2", started by "ann@b1" at 2026-11-29T12:00:00Z`
	if code != ExitLocked || !strings.Contains(stderr, want) || strings.Contains(stderr, "starting instances") {
		t.Errorf("got %d, %q; want %d and %q", code, stderr, ExitLocked, want)
	}
	if code, out, _ := s.about("status"); code != ExitChanges || !strings.Contains(out, "api 1.2  under way, ") {
		t.Errorf("status: %d, want %d\n%s", code, ExitChanges, out)
	}
	if err := other.End(t.Context(), deploy.Result{Outcome: deploy.Deployed}); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := s.about("status", "--service", "api"); code != ExitOK || !strings.Contains(out, "api 1.2  deployed, ") {
		t.Errorf("status: %d, want %d\n%s", code, ExitOK, out)
	}
}

func TestDeploy_Recorded_StatusHistoryAndUndo(t *testing.T) {
	s := newDeployScene(t, api.Access{})
	if code, out, _ := s.about("status"); code != ExitOK || out != "no deployment is recorded\n" {
		t.Errorf("at first: %d %q", code, out)
	}
	if code, _, errs := s.about("undo", "--service", "api", "--start", "true", "--stop", "true"); code != ExitFailure || !strings.Contains(errs, "undo api: no deployment that replaced a version is recorded") {
		t.Errorf("nothing to undo: %d %q", code, errs)
	}
	s.node("api-0", "1.0")
	s.node("api-9", "1.1")
	if code, _, errs := s.run(nil, "--start", "true", "--stop", "exit 5"); code != ExitHalfway {
		t.Fatalf("deploy: %d %q", code, errs)
	}
	code, out, _ := s.about("status")
	for _, want := range []string{"api 1.0 → 1.1  partially deployed, ", "@h at ", "  ✓ check: ", "  ✓ wait until live: 1 of 1.1 on every load balancer", "  ✗ stop: 1 old instances, 0 left after", "  lb0  live 1 of 1", `  ! stop "api-0": stop api-0: exit status 5`} {
		if !strings.Contains(out, want) {
			t.Errorf("status has no %q:\n%s", want, out)
		}
	}
	if code != ExitDegraded {
		t.Errorf("status: exit code %d, want %d", code, ExitDegraded)
	}
	code, _, errs := s.about("undo", "--service", "api")
	if code != ExitUsage || !strings.Contains(errs, "undo api: it would deploy 1.0 again: --start and --stop, or --compose: required") {
		t.Errorf("undo without commands: %d %q", code, errs)
	}
	if _, out, _ = s.about("status", "--json"); !strings.Contains(out, `"undo_version":"1.0"`) {
		t.Errorf("status --json says not what an undo would deploy:\n%s", out)
	}
	// The undo deploys 1.0: nothing is to be started, and the stop fails again.
	if code, _, errs := s.about("undo", "--service", "api", "--start", "true", "--stop", "exit 6", "--min-healthy", "0s"); code != ExitHalfway || !strings.Contains(errs, `stop "api-9": stop api-9: exit status 6`) {
		t.Errorf("undo: %d %q", code, errs)
	}
	_, out, _ = s.about("history", "--service", "api")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "1.1 → 1.0 (undo)") || !strings.Contains(lines[2], "1.0 → 1.1  ") {
		t.Errorf("history:\n%s", out)
	}
	if _, out, _ = s.about("history", "--json"); !strings.Contains(out, `"state":"failed"`) || !strings.Contains(out, `"undoes":"`) {
		t.Errorf("history --json:\n%s", out)
	}
}

// Anybody who may write keys may have written the record.
func TestDeployStatus_HostileRecord_PrintedAsText(t *testing.T) {
	d := daemon.OneDeployment{Deployment: history.Deployment{
		Service: "api", Version: "\x1b[2J", OldVersion: "1.0", By: "ann\x1b[2J", Started: noon, Count: 3,
		Steps: []deploy.Step{
			{Name: "start", Detail: "3 instances of 1.1", Started: noon, Ended: noon.Add(1500 * time.Millisecond)},
			{Name: "wait\x1b[2J", Started: noon, Deadline: noon.Add(time.Minute), AtDeadline: "x\x1b[2J"},
		},
		LoadBalancers: []deploy.Bar{{Name: "lb0", Live: 3, Want: 3, Drained: 1, Of: 3, Waits: "api-1 on lb0: not drained: 2 sessions\x1b[2J"}},
		Problems:      []string{"y\x1b[2J"},
	}, State: history.UnderWay, TookMS: 4000}
	var b strings.Builder
	writeDeployments(&b, daemon.Deployments{Services: []daemon.ServiceDeployments{{Service: "api", Deployments: []daemon.OneDeployment{d}}}}, noon.Add(4*time.Second), true)
	want := `api 1.0 → "\x1b[2J"  under way, 4.0s, by ann·[2J at 2026-11-29T12:00:00Z
  ✓ start: 3 instances of 1.1  1.5s
  … wait·[2J:   4.0s, until 12:01:00, then: x·[2J
  lb0  live 3 of 3, drained 1 of 3, waits: api-1 on lb0: not drained: 2 sessions·[2J
  ! y·[2J
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

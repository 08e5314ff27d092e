//go:build compose

package compose

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stack is one run of the sample under a project name of its own.
type stack struct {
	*testing.T
	ctx     context.Context
	project string
	files   []string
	environ []string
	ports   map[string]int
	root    string
	reports string // where the clients write
	begun   time.Time
	up      bool
}

// clients are those that the verdict adds up.
var clients = []string{"client0", "client1", "client2", "client3", "client4"}

// newStack brings the sample up and waits until all of it is healthy.
// variables are those of .env, as NAME=value.
func newStack(t *testing.T, variables ...string) *stack {
	t.Helper()
	return startStack(t, []string{"compose.yaml"}, variables...)
}

func startStack(t *testing.T, files []string, variables ...string) *stack {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	s := &stack{
		T: t, ctx: ctx, root: root, begun: time.Now(), ports: map[string]int{},
		project: "pm-" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))[:min(24, len(t.Name())-4)],
		files:   append(files, "test/e2e/compose/override.yaml"),
	}
	for _, name := range []string{"LB0_PORT", "LB1_PORT", "LB0_STATS_PORT", "LB1_STATS_PORT", "LB0_STATUS_PORT", "LB1_STATUS_PORT", "CONSUL_PORT"} {
		s.ports[name] = freePort(t)
		s.environ = append(s.environ, fmt.Sprintf("%s=%d", name, s.ports[name]))
	}
	s.environ = append(s.environ, variables...)
	s.reports = t.TempDir()
	// The clients do not run as root.
	if err := os.Chmod(s.reports, 0o777); err != nil {
		t.Fatal(err)
	}
	s.environ = append(s.environ, "E2E_REPORTS="+s.reports)
	// deploy.sh remembers the version in the file of settings; not in ours.
	settings := filepath.Join(t.TempDir(), "env")
	content, err := os.ReadFile(filepath.Join(root, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(settings, content, 0o600); err != nil {
		t.Fatal(err)
	}
	// A time that is waited for proves nothing here: e2e has tests of it.
	s.environ = append(s.environ, "DEPLOY_MIN_HEALTHY=1")
	s.environ = append(s.environ, "COMPOSE_ENV_FILES="+settings, "COMPOSE_PROJECT_NAME="+s.project,
		"COMPOSE_FILE="+strings.Join(s.files, string(os.PathListSeparator)))
	t.Cleanup(func() {
		if t.Failed() {
			s.showLogs()
		}
		down, cancelDown := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancelDown()
		defer cancel()
		if out, err := s.run(down, "docker", "compose", "down", "-v", "--timeout", "3"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		s.nothingLeft(down)
	})
	s.compose("up", "-d", "--wait", "--wait-timeout", "180")
	s.up = true
	return s
}

// nothingLeft checks that `down -v` has left no container, volume or network.
func (s *stack) nothingLeft(ctx context.Context) {
	label := "label=com.docker.compose.project=" + s.project
	for _, list := range [][]string{
		{"ps", "-aq", "--filter", label}, {"volume", "ls", "-q", "--filter", label}, {"network", "ls", "-q", "--filter", label},
	} {
		out, err := s.run(ctx, "docker", list...)
		if err != nil || strings.TrimSpace(out) != "" {
			s.Errorf("docker %s after down: %v: %q, want nothing", list[0], err, out)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // only its number is wanted
	return l.Addr().(*net.TCPAddr).Port
}

// run runs a program in the repository and gives what it printed.
func (s *stack) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), s.environ...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// docker runs a command that must succeed.
func (s *stack) docker(args ...string) string {
	s.Helper()
	out, err := s.run(s.ctx, "docker", args...)
	if err != nil {
		s.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func (s *stack) compose(args ...string) string {
	s.Helper()
	return s.docker(append([]string{"compose"}, args...)...)
}

// nodes returns the IDs of the API's containers, the oldest first.
func (s *stack) nodes() []string {
	s.Helper()
	// `docker compose ps` fails where a container goes while it lists them.
	ids := strings.Fields(s.docker("ps", "-q", "--no-trunc", "--filter", "status=running",
		"--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service=api"))
	slices.Reverse(ids)
	return ids
}

// deploy is what `make deploy` runs.
func (s *stack) deploy(version string) {
	s.Helper()
	if out, err := s.tryDeploy(version); err != nil {
		s.Fatalf("deploy %s: %v\n%s", version, err, out)
	}
}

func (s *stack) tryDeploy(version string, environ ...string) (string, error) {
	d := *s
	d.environ = append(append([]string{}, s.environ...), environ...)
	return d.run(s.ctx, "compose/deploy.sh", version)
}

// state is what the test reads of a sidecar's /api/v1/state.
type state struct {
	Ready   bool `json:"ready"`
	HAProxy struct {
		PID         int    `json:"pid"`
		Version     string `json:"version"`
		Maintenance bool   `json:"maintenance"`
	} `json:"haproxy"`
	Consul struct {
		Reachable bool `json:"reachable"`
	} `json:"consul"`
	Reloads struct {
		Succeeded int    `json:"succeeded"`
		Failed    int    `json:"failed"`
		Error     string `json:"error"`
	} `json:"reloads"`
	Services []struct {
		Name      string     `json:"name"`
		Instances []instance `json:"instances"`
	} `json:"services"`
}

type instance struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Phase   string `json:"phase"`
	Health  string `json:"health"`
}

// state asks the sidecar of a load balancer, lb0 or lb1.
func (s *stack) state(lb string) (state, error) {
	var out state
	err := s.getJSON(fmt.Sprintf("http://127.0.0.1:%d/api/v1/state", s.ports[strings.ToUpper(lb)+"_STATUS_PORT"]), &out)
	return out, err
}

func (s *stack) getJSON(url string, into any) error {
	body, err := s.get(url)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func (s *stack) get(url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return body, err
}

// until polls a fact.
func (s *stack) until(limit time.Duration, what string, fact func() error) {
	s.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fact()
		if err == nil {
			return
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("%s: %v: %v", what, err, context.Cause(s.ctx))
		case <-deadline.C:
			s.Fatalf("%s: not within %s: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// routes waits until the load balancers route the service to that number of instances
// of a version, and to none of another.
func (s *stack) routes(limit time.Duration, version string, count int, lbs ...string) {
	s.Helper()
	if len(lbs) == 0 {
		lbs = []string{"lb0", "lb1"}
	}
	for _, lb := range lbs {
		s.until(limit, fmt.Sprintf("%s routes to %d of %s", lb, count, version), func() error {
			st, err := s.state(lb)
			if err != nil {
				return err
			}
			up, other := 0, 0
			for _, svc := range st.Services {
				for _, i := range svc.Instances {
					switch {
					case svc.Name != "api" || i.Phase != "up":
					case i.Version == version:
						up++
					default:
						other++
					}
				}
			}
			if up != count || other != 0 {
				return fmt.Errorf("%d up, and %d of other versions: %+v", up, other, st.Services)
			}
			return nil
		})
	}
}

// hold lets the clients go on for a while: a fault that is over must have had
// the time to hurt.
func (s *stack) hold(d time.Duration) {
	s.Helper()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
		s.Fatal(context.Cause(s.ctx))
	case <-t.C:
	}
}

// report is what a client prints at its end.
type report struct {
	Name             string            `json:"name"`
	Requests         uint64            `json:"requests"`
	Failed           uint64            `json:"failed"`
	Failures         map[string]uint64 `json:"failures"`
	FailedIdempotent uint64            `json:"failed_idempotent"`
	FailedPost       uint64            `json:"failed_post"`
	Versions         map[string]uint64 `json:"versions"`
}

// result is one line of report.json.
type result struct {
	Scenario string            `json:"scenario"`
	Requests uint64            `json:"requests"`
	Failed   uint64            `json:"failed"`
	Reloads  int               `json:"reloads"`
	Seconds  float64           `json:"seconds"`
	Versions map[string]uint64 `json:"versions"`
}

// mustLoseNothing stops the clients, adds up what they found and fails the
// test if one request failed.
func (s *stack) mustLoseNothing(scenario string, reloads int) {
	s.Helper()
	s.compose(append([]string{"stop"}, clients...)...)
	out := result{Scenario: scenario, Reloads: reloads, Versions: map[string]uint64{}}
	for _, c := range clients {
		r, err := s.clientReport(c)
		if err != nil {
			s.Fatalf("%s: %v", c, err)
		}
		out.Requests += r.Requests
		out.Failed += r.Failed
		for v, n := range r.Versions {
			out.Versions[v] += n
		}
		if r.Failed != 0 {
			s.Errorf("%s: %d of %d requests failed: %v (%d of idempotent ones)", c, r.Failed, r.Requests, r.Failures, r.FailedIdempotent)
		}
		if r.Requests == 0 {
			s.Errorf("%s has sent no request", c)
		}
	}
	out.Seconds = float64(time.Since(s.begun).Round(100*time.Millisecond)) / float64(time.Second)
	if err := record(out); err != nil {
		s.Error(err)
	}
}

// clientReport is what a client has written at its end.
func (s *stack) clientReport(name string) (r report, err error) {
	content, err := os.ReadFile(filepath.Join(s.reports, name+".json"))
	if err != nil {
		return r, err
	}
	err = json.Unmarshal(content, &r)
	return r, err
}

// reloads is how often a load balancer's HAProxy was reloaded.
func (s *stack) reloads(lb string) int {
	s.Helper()
	st, err := s.state(lb)
	if err != nil {
		s.Fatal(err)
	}
	return st.Reloads.Succeeded + st.Reloads.Failed
}

func (s *stack) showLogs() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, service := range []string{"lb0-sidecar", "lb1-sidecar", "api", "client0", "lb0"} {
		out, err := s.run(ctx, "docker", "compose", "logs", "--tail", "30", service)
		s.Logf("---- %s (%v)\n%s", service, err, out)
	}
	out, err := s.run(ctx, "docker", "compose", "ps", "-a")
	s.Logf("---- ps (%v)\n%s", err, out)
}

// requests is how many requests a load balancer has been sent so far, by
// HAProxy's own count.
func (s *stack) requests(lb string) (n int, err error) {
	out, err := s.get(fmt.Sprintf("http://127.0.0.1:%d/;csv", s.ports[strings.ToUpper(lb)+"_STATS_PORT"]))
	if err != nil {
		return 0, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(out), "# "))).ReadAll()
	if err != nil {
		return 0, err
	}
	for _, row := range rows[1:] {
		if row[0] == "api.front" && row[1] == "FRONTEND" {
			return strconv.Atoi(row[slices.Index(rows[0], "req_tot")])
		}
	}
	return 0, fmt.Errorf("no frontend of api: %s", out)
}

// requestsCome waits until clients send requests to a load balancer.
func (s *stack) requestsCome(lb string) {
	s.Helper()
	first, err := s.requests(lb)
	if err != nil {
		s.Fatal(err)
	}
	s.until(30*time.Second, "requests come to "+lb, func() error {
		now, err := s.requests(lb)
		if err == nil && now <= first {
			err = fmt.Errorf("still %d", now)
		}
		return err
	})
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// fleet is nodes that `pointsman deploy` starts and stops by shell commands.
type fleet struct {
	*world
	dir      string // of the nodes' pids and logs
	balancer []*lab.Balancer
	started  string // what the start command does after it has started a node
	stopped  string // what the stop command does after it has stopped one
}

// newFleet starts Consul and two load balancers, and deploys version 1.0 for the
// first time.
func newFleet(t *testing.T, nodes int) *fleet {
	t.Helper()
	f := &fleet{world: bareWorld(t), dir: t.TempDir()}
	for _, name := range []string{"lb0", "lb1"} {
		b, err := f.NewBalancer(name, f.consul, lab.Service{Name: service, Backend: "api_nodes"})
		f.must(err)
		f.must(b.Start(f.ctx))
		f.balancer = append(f.balancer, b)
	}
	f.lb = f.balancer[0]
	t.Cleanup(f.endAll)
	f.mustDeploy("1.0", "--count", strconv.Itoa(nodes))
	return f
}

// endAll ends what the commands have started, should the test have left it.
func (f *fleet) endAll() {
	for _, pid := range f.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // ended already: as well
	}
}

// pids returns the nodes' process IDs by their names; of a node that has been
// stopped there is none.
func (f *fleet) pids() map[string]int {
	f.Helper()
	files, err := filepath.Glob(filepath.Join(f.dir, "*.pid"))
	if err != nil {
		f.Fatal(err)
	}
	pids := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			f.Errorf("%s: %v", file, err)
			continue
		}
		pids[strings.TrimSuffix(filepath.Base(file), ".pid")] = pid
	}
	return pids
}

// deployed is what the tests read of the JSON.
type deployed struct {
	Outcome string   `json:"outcome"`
	Started int      `json:"started"`
	Stopped []string `json:"stopped"`
	Undone  []string `json:"undone"`
	Foreign []struct {
		ID string `json:"id"`
	} `json:"foreign"`
	Problems []reason `json:"problems"`
}

type reason struct {
	Instance string `json:"instance"`
	Check    string `json:"check"`
	Output   string `json:"output"`
}

// command is `pointsman deploy` without a sidecar.yaml.
func (f *fleet) command(ctx context.Context, version string, args ...string) *exec.Cmd {
	start := fmt.Sprintf(`%s --listen 127.0.0.1:0 --address 127.0.0.1 --service "$DEPLOY_SERVICE" \
		--id "$DEPLOY_INSTANCE" --instance "$DEPLOY_INSTANCE" --version-name "$DEPLOY_VERSION" >%s/"$DEPLOY_INSTANCE.log" 2>&1 &
		echo $! >%s/"$DEPLOY_INSTANCE.new" && mv %s/"$DEPLOY_INSTANCE.new" %s/"$DEPLOY_INSTANCE.pid"
		%s`, programs.API, f.dir, f.dir, f.dir, f.dir, f.started)
	stop := fmt.Sprintf(`file=%s/"$DEPLOY_INSTANCE.pid"; echo "$DEPLOY_INSTANCE" >>%s/stopped; pid=$(cat "$file") && kill "$pid" && rm "$file" &&
		while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done; echo "$DEPLOY_ADDRESS is free"
		%s`, f.dir, f.dir, f.stopped)
	return f.commandOf(ctx, version, start, stop, args...)
}

// commandOf is the same with other commands for nodes.
func (f *fleet) commandOf(ctx context.Context, version, start, stop string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, programs.Sidecar, append([]string{
		"deploy", "--consul-address", f.consul.Address(), "--service", service, "--version", version,
		"--start", start, "--stop", stop, "--json", "--min-healthy", "1s",
	}, args...)...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+f.consul.Address())
	return cmd
}

// deploy runs it to its end.
func (f *fleet) deploy(version string, environ []string, args ...string) (out deployed, code int, said string) {
	f.Helper()
	cmd := f.command(f.ctx, version, args...)
	cmd.Env = append(cmd.Env, environ...)
	return f.result(cmd)
}

// result runs a deployment to its end.
func (f *fleet) result(cmd *exec.Cmd) (out deployed, code int, said string) {
	f.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok && err != nil || ok && !exit.Exited() {
		f.Fatalf("deploy: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		f.Fatalf("standard output is not one JSON object: %v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	f.Logf("%q:\n%s", cmd.Args[3:], stderr.String())
	return out, cmd.ProcessState.ExitCode(), stderr.String()
}

func (f *fleet) mustDeploy(version string, args ...string) deployed {
	f.Helper()
	out, code, said := f.deploy(version, nil, args...)
	if code != 0 || out.Outcome != "deployed" {
		f.Fatalf("deploy %s: got exit code %d, %+v, want 0\n%s", version, code, out, said)
	}
	// It has returned: so it is live everywhere, and nothing else is.
	for _, b := range f.balancer {
		s, err := b.State(f.ctx)
		f.must(err)
		for _, i := range s.Instances(service) {
			if (i.Version == version) != (i.Phase == "up") || i.Sessions > 0 && i.Phase != "up" {
				f.Errorf("after the deployment of %s, %s has %+v", version, b.Name, i)
			}
		}
	}
	return out
}

func TestDeployByShellCommandsLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	clients := f.load()
	if out := f.mustDeploy("1.1"); out.Started != 3 || len(out.Stopped) != 3 {
		t.Errorf("1.1: got %+v, want 3 started and 3 stopped", out)
	}
	if out := f.mustDeploy("1.2", "--batch", "1"); out.Started != 3 || len(out.Stopped) != 3 {
		t.Errorf("1.2 in batches: got %+v, want 3 started and 3 stopped", out)
	}
	if got := f.pids(); len(got) != 3 {
		t.Errorf("nodes: got %v, want 3", got)
	}
	out, code, _ := f.deploy("1.2", nil)
	if code != 0 || out.Outcome != "already deployed" {
		t.Errorf("1.2 again: got exit code %d, %+v, want that nothing is done", code, out)
	}
	reports := f.mustLoseNothing(clients)
	for _, v := range []string{"1.0", "1.1", "1.2"} {
		if reports[0].Versions[v] == 0 {
			t.Errorf("no answer of version %s: %v", v, reports[0].Versions)
		}
	}
}

func TestDeployOfABadVersionLeavesTheOldOneUntouched(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	clients := f.load()
	before := f.pids()
	out, code, said := f.deploy("1.1", []string{"API_FAIL=critical"}, "--timeout", "6s")
	if code != 1 || out.Outcome != "failed" || len(out.Stopped) != 0 || len(out.Undone) != 3 {
		t.Errorf("got exit code %d, %+v, want 1, none stopped and 3 undone", code, out)
	}
	for _, text := range []string{"lb0 has 0 of 3 of 1.1 live", "lb1 has 0 of 3 of 1.1 live", "is critical, its last output", "after 6."} {
		if !strings.Contains(said, text) {
			t.Errorf("it does not say %q:\n%s", text, said)
		}
	}
	if !slices.ContainsFunc(out.Problems, func(p reason) bool {
		return p.Instance != "" && p.Check != "" && p.Output != ""
	}) {
		t.Errorf("no problem names an instance, its check and its output: %+v", out.Problems)
	}
	if after := f.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("nodes: got %v, want as before %v", after, before)
	}
	f.mustLoseNothing(clients)
}

func TestAnInterruptedDeployIsFinishedByAnother(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	clients := f.load()
	cmd := f.command(f.ctx, "1.1")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = nil, &stderr
	f.must(cmd.Start())
	// Not before: a command that starts one is ended with all that it has started,
	// and who is not registered yet is not known.
	f.must(lab.Until(f.ctx, 20*time.Second, "the new nodes are registered", func() error {
		all, _, err := f.consul.Client.Catalog().Service(service, "", nil)
		if err == nil && len(all) != 6 {
			err = fmt.Errorf("%d nodes", len(all))
		}
		return err
	}))
	f.must(cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the code is looked at
	if got := cmd.ProcessState.ExitCode(); got != 130 || !strings.Contains(stderr.String(), "run the command again to continue") {
		t.Errorf("got exit code %d, want 130, and what it left:\n%s", got, stderr.String())
	}
	f.mustDeploy("1.1")
	if got := f.pids(); len(got) != 3 {
		t.Errorf("nodes: got %v, want 3", got)
	}
	f.mustLoseNothing(clients)
}

func TestDeployBeginsNothingWithALoadBalancerThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	before := f.pids()
	f.must(f.balancer[1].Sidecar.Kill())
	out, code, said := f.deploy("1.1", nil)
	if code != 1 || out.Started != 0 || !strings.Contains(said, "the load balancer lb1 at http://127.0.0.1:") {
		t.Errorf("got exit code %d, %+v, want 1 and none started:\n%s", code, out, said)
	}
	if after := f.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("nodes: got %v, want as before %v", after, before)
	}
}

// dying has the new nodes killed 4 s after they were started.
func (f *fleet) dying() { f.started = `pid=$!; (sleep 4; kill -9 "$pid") >/dev/null 2>&1 &` }

// live returns the nodes that take traffic on lb0, by their versions.
func (f *fleet) live() map[string][]string {
	f.Helper()
	s, err := f.lb.State(f.ctx)
	f.must(err)
	live := map[string][]string{}
	for _, i := range s.Instances(service) {
		if i.Phase == "up" {
			live[i.Version] = append(live[i.Version], i.ID)
		}
	}
	return live
}

func TestDeploy_NewInstanceDiesWithinMinHealthy_OldUntouched(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	before := f.pids()
	f.dying()
	out, code, said := f.deploy("1.1", nil, "--min-healthy", "10s", "--timeout", "8s")
	if code != 1 || out.Outcome != "failed" || len(out.Stopped) != 0 {
		t.Errorf("got exit code %d, %+v, want 1 and none stopped:\n%s", code, out, said)
	}
	for name, pid := range before {
		if f.pids()[name] != pid {
			t.Errorf("%s: its process is not %d any more", name, pid)
		}
	}
	if got := f.live(); len(got["1.0"]) != 1 {
		t.Errorf("live: got %v, want the old one", got)
	}
}

func TestDeploy_NewInstanceDiesWhileOldDrains_ExitsPartial(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	slow := make(chan error, 2)
	for range 2 {
		go func() { slow <- f.slowRequest(f.ctx, 14*time.Second) }()
	}
	f.dying()
	out, code, said := f.deploy("1.1", nil, "--batch", "1", "--timeout", "20s")
	if code != 4 || out.Outcome != "partially deployed" || out.Started != 1 || len(out.Stopped) != 1 {
		t.Errorf("got exit code %d, %+v, want 4, one started and one stopped:\n%s", code, out, said)
	}
	if !slices.ContainsFunc(out.Problems, func(p reason) bool { return strings.HasPrefix(p.Instance, "api-1.1-") }) {
		t.Errorf("no problem names the new instance that has gone: %+v", out.Problems)
	}
	if got := f.live(); len(got["1.0"]) != 1 || len(got["1.1"]) != 0 {
		t.Errorf("live: got %v, want the old one that is left", got)
	}
	for range 2 {
		if err := <-slow; err != nil {
			t.Errorf("a long request: %v", err)
		}
	}
}

// All old ones have been told to stop when the new one dies: nothing is left to
// keep, and it must not say that it is deployed.
func TestDeploy_NewInstanceDiesWhileLastOldDrains_ExitsPartial(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	slow := make(chan error, 1)
	go func() { slow <- f.slowRequest(f.ctx, 14*time.Second) }()
	f.dying()
	out, code, said := f.deploy("1.1", nil, "--timeout", "20s")
	if code != 4 || out.Outcome != "partially deployed" {
		t.Errorf("got exit code %d, %+v, want 4:\n%s", code, out, said)
	}
	if !slices.ContainsFunc(out.Problems, func(p reason) bool { return strings.HasPrefix(p.Instance, "api-1.1-") }) {
		t.Errorf("no problem names the new instance that has gone: %+v", out.Problems)
	}
	if err := <-slow; err != nil {
		t.Errorf("the long request: %v", err)
	}
}

// The new one ends together with the last old one. It is not out for long while anything
// is waited for, and the last look must not take it for deployed.
func TestDeploy_NewInstanceDiesAtTheEnd_ExitsPartial(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.stopped = fmt.Sprintf(`kill -9 $(cat %s/api-1.1-*.pid)
		until curl -s '%s/api/v1/live/%s?version=1.1&count=1&wait=100ms' | grep -q '"live":false'; do sleep 0.05; done`, f.dir, f.lb.StatusURL(), service)
	out, code, said := f.deploy("1.1", nil, "--timeout", "20s")
	if code != 4 || out.Outcome != "partially deployed" || len(out.Stopped) != 1 {
		t.Errorf("got exit code %d, %+v, want 4 and the old one stopped:\n%s", code, out, said)
	}
	if !slices.ContainsFunc(out.Problems, func(p reason) bool { return strings.HasPrefix(p.Instance, "api-1.1-") }) {
		t.Errorf("no problem names the new instance that has gone: %+v", out.Problems)
	}
}

// Any program that may register in Consul chooses an instance's ID, and a stop command
// such as `systemctl stop "$DEPLOY_INSTANCE"` stops what it is given.
func TestDeploy_ForeignInstances_NeitherStoppedNorCounted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	for id, version := range map[string]string{"sshd.service": "1.0", "apiary": "1.0", "stranger": "1.1"} {
		_, err := f.StartNode(f.ctx, f.consul, service, id, version)
		f.must(err)
	}
	out, code, said := f.deploy("1.1", nil)
	if code != 0 || out.Started != 2 || len(out.Stopped) != 2 {
		t.Errorf("got exit code %d, %+v, want 0, two started and two stopped:\n%s", code, out, said)
	}
	var foreign []string
	for _, i := range out.Foreign {
		foreign = append(foreign, i.ID)
	}
	if want := []string{"apiary", "sshd.service", "stranger"}; !slices.Equal(foreign, want) {
		t.Errorf("foreign: got %q, want %q", foreign, want)
	}
	stopped, err := os.ReadFile(filepath.Join(f.dir, "stopped"))
	f.must(err)
	for _, id := range foreign {
		if strings.Contains(string(stopped), id) || !strings.Contains(said, id) {
			t.Errorf("%s: want it named and not stopped; stopped: %q\n%s", id, stopped, said)
		}
	}
}

// Who says so has all instances stopped, or those of another pattern.
func TestDeploy_ForeignInstancesIncluded_Stopped(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"include-foreign":  {"--include-foreign"},
		"instance-pattern": {"--instance-pattern", "(api|other)-.*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1)
			foreign, err := f.StartNode(f.ctx, f.consul, service, "other-1", "1.0")
			f.must(err)
			f.must(os.WriteFile(filepath.Join(f.dir, "other-1.pid"), []byte(strconv.Itoa(foreign.PID())), 0o600))
			out, code, said := f.deploy("1.1", nil, args...)
			if code != 0 || len(out.Stopped) != 2 || !slices.Contains(out.Stopped, "other-1") || len(out.Foreign) != 0 {
				t.Errorf("got exit code %d, %+v, want 0, and other-1 stopped, too:\n%s", code, out, said)
			}
			if foreign.Running() {
				t.Error("the foreign node runs")
			}
		})
	}
}

// The new program never gets the port, and the checks of its wrapper reach the
// old one.
func TestDeploy_NewNodeOnPortOfOld_OldUntouched(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	old := f.live()["1.0"][0]
	s, err := f.lb.State(f.ctx)
	f.must(err)
	_, port, found := strings.Cut(s.Instances(service)[0].Addr, ":")
	if !found {
		t.Fatalf("no port: %+v", s.Instances(service))
	}
	start := fmt.Sprintf(`%s run --service api --id "$DEPLOY_INSTANCE" --version "$DEPLOY_VERSION" --port %s --check http:/healthz \
		--leave-wait 1s -- sleep 100 >%s/wrapper.log 2>&1 & echo $! >%s/"$DEPLOY_INSTANCE.pid"`, programs.Registrator, port, f.dir, f.dir)
	stop := fmt.Sprintf(`kill "$(cat %s/"$DEPLOY_INSTANCE.pid")"; rm %s/"$DEPLOY_INSTANCE.pid"`, f.dir, f.dir)
	out, code, said := f.result(f.commandOf(f.ctx, "1.1", start, stop, "--timeout", "5s"))
	if code != 1 || len(out.Stopped) != 0 {
		t.Errorf("got exit code %d, %+v, want 1 and none stopped:\n%s", code, out, said)
	}
	log, err := os.ReadFile(filepath.Join(f.dir, "wrapper.log"))
	f.must(err)
	if want := fmt.Sprintf("pid %d (api)", f.pids()[old]); !strings.Contains(string(log), want) {
		t.Errorf("the wrapper does not name the old program, %s:\n%s", want, log)
	}
	if got := f.live(); len(got["1.0"]) != 1 {
		t.Errorf("live: got %v, want the old one", got)
	}
}

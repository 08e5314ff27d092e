package consultest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// Process is a real `consul agent -dev` on free ports of 127.0.0.1. It keeps
// its state in memory: what a restart starts has forgotten all.
type Process struct {
	t     testing.TB
	bin   string
	old   bool // before 1.14
	hcl   []string
	ports []int // in the order of portFlags

	run *proctest.Process // nil before the first start
}

const (
	startLimit = 60 * time.Second // for a machine that several test binaries share
	stopLimit  = 20 * time.Second
)

// portFlags are the flags that name a port; the first is the HTTP port's.
func portFlags() []string {
	return []string{"-http-port", "-dns-port", "-grpc-port", "-server-port", "-serf-lan-port", "-serf-wan-port"}
}

// noGRPCTLS is the flag without which an agent of Consul 1.14 or newer takes a
// fixed port. Older ones have neither.
const noGRPCTLS = "-grpc-tls-port=-1"

// IsOld reports whether the Consul under test is older than 1.14.
func IsOld(t testing.TB) bool {
	t.Helper()
	return isOld(t, findConsul(t))
}

var oldVersion = regexp.MustCompile(`Consul v?1\.(?:\d|1[0-3])\.`)

func isOld(t testing.TB, bin string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), bin, "version").Output()
	if err != nil {
		t.Fatalf("consultest: %s version: %v", bin, err)
	}
	return oldVersion.Match(out)
}

// StartProcess starts Consul and returns once it has a leader. The process
// ends with the test. Each hcl is a fragment of configuration, as for -hcl.
func StartProcess(t testing.TB, hcl ...string) *Process {
	t.Helper()
	p := &Process{t: t, bin: findConsul(t), hcl: hcl}
	p.old = isOld(t, p.bin)
	t.Cleanup(p.Kill)
	// Another process can take a port between the moment when it was found free
	// and Consul's start.
	for attempt := 1; ; attempt++ {
		p.ports = freePorts(t, len(portFlags()))
		err := p.start()
		if err == nil {
			return p
		}
		if attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			t.Fatal(err)
		}
	}
}

// Address is host:port of its HTTP API and UI.
func (p *Process) Address() string { return "127.0.0.1:" + strconv.Itoa(p.ports[0]) }

// PID is the process ID.
func (p *Process) PID() int { return p.run.PID() }

// Stop ends it by SIGTERM, and returns when it has ended.
func (p *Process) Stop() { p.t.Helper(); p.end(syscall.SIGTERM) }

// Kill ends it by SIGKILL, and returns when it has ended.
func (p *Process) Kill() { p.t.Helper(); p.end(syscall.SIGKILL) }

// Restart starts it again on the same ports, after a Stop or Kill or by a Kill
// of its own, and returns once it has a leader. It knows nothing of before.
func (p *Process) Restart() {
	p.t.Helper()
	p.Kill()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}

// Pause freezes it, and returns once it is: connections stay open and nothing
// answers.
func (p *Process) Pause() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	for over := time.Now().Add(stopLimit); p.answers(); {
		if time.Now().After(over) {
			p.t.Fatalf("consultest: consul (pid %d) answers %v after SIGSTOP", p.PID(), stopLimit)
		}
	}
}

// answers is false if it gives no answer for a while.
func (p *Process) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, _, err := get(ctx, "http://"+p.Address()+"/v1/status/leader")
	return err == nil
}

// Resume lets it go on after a Pause.
func (p *Process) Resume() { p.t.Helper(); p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.run.Cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("consultest: send %v to consul (pid %d): %v", s, p.PID(), err)
	}
}

func (p *Process) end(s syscall.Signal) {
	p.t.Helper()
	if p.run == nil {
		return
	}
	if err := p.run.Cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("consultest: send %v to consul (pid %d): %v", s, p.PID(), err)
	}
	select {
	case <-p.run.Done():
	case <-time.After(stopLimit):
		p.t.Errorf("consultest: consul (pid %d) runs %v after %v", p.PID(), stopLimit, s)
	}
}

func (p *Process) start() error {
	args := []string{
		"agent", "-dev", "-node", nodeName, "-bind", "127.0.0.1", "-client", "127.0.0.1", "-log-level", "warn",
		"-hcl", "disable_update_check = true",
	}
	if !p.old {
		args = append(args, noGRPCTLS)
	}
	for i, flag := range portFlags() {
		args = append(args, flag, strconv.Itoa(p.ports[i]))
	}
	for _, fragment := range p.hcl {
		args = append(args, "-hcl", fragment)
	}
	p.run = proctest.Start(p.t, nil, p.bin, args...)
	return p.awaitLeader()
}

// awaitLeader returns once there is a leader and the agent's own node is in the
// catalog with its check: from then on what is registered shows at once, and there can be sessions.
func (p *Process) awaitLeader() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		select {
		case <-p.run.Done():
			return fmt.Errorf("consultest: consul ended before it had a leader:\n%s%s", &p.run.Stdout, &p.run.Stderr)
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("consultest: consul has no leader after %v:\n%s%s", startLimit, &p.run.Stdout, &p.run.Stderr)
		case <-time.After(20 * time.Millisecond):
		}
		leader, _, err := get(ctx, "http://"+p.Address()+"/v1/status/leader")
		if err != nil || !strings.Contains(leader, ":") {
			continue
		}
		checks, policy, err := get(ctx, "http://"+p.Address()+"/v1/health/node/"+nodeName)
		if err == nil && (strings.Contains(checks, `"serfHealth"`) || policy == "deny" || p.old && p.denies()) {
			return nil
		}
	}
}

// denies reports whether its ACLs hide the node from those without a token; an
// old Consul's answer does not say so.
func (p *Process) denies() bool {
	return slices.ContainsFunc(p.hcl, func(s string) bool { return strings.Contains(s, `default_policy = "deny"`) })
}

// get returns the body, and the ACL policy for those without a token.
func get(ctx context.Context, url string) (body, policy string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(b), resp.Header.Get("X-Consul-Default-Acl-Policy"), err
}

// findConsul returns the Consul under test. With -short, which is `make unit`,
// it skips the test.
func findConsul(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Consul: run `make test`")
	}
	path, err := lab.FindConsul()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freePorts returns free ports of 127.0.0.1, to this Consul only.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = lab.FreePort(); err != nil {
			t.Fatalf("consultest: %v", err)
		}
	}
	return ports
}

//go:build linux

package main_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/test/proctest"
)

func TestAllThatIsSetIsRegistered(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	port := freePort(t)
	id := "all-" + strconv.Itoa(port)
	env := append(c.env(), "REGISTRATOR_TAG=x,\"y,z\"", "REGISTRATOR_META=team=a b,k=v=w", "REGISTRATOR_VERSION=0.9", "REGISTRATOR_BACKUP=true")
	p := start(t, env, wrap(port, []string{
		"--id", id, "--address", "127.0.0.1", "--version", "1.1", "--weight", "7", "--maxconn", "50",
		"--check", "http:/healthz?full=1", "--check", "tcp", "--check", "ttl:5s", "--check-interval", "2s", "--check-timeout", "500ms", "--leave-wait", "1ms",
	})...)
	e := c.registered(t, "api", id)
	if s := e.Service; s.Address != "127.0.0.1" || s.Port != port || s.Weights.Passing != 7 || !slices.Equal(s.Tags, []string{"x", "y,z"}) {
		t.Errorf("service: got %+v", s)
	}
	maps.DeleteFunc(e.Service.Meta, func(key, _ string) bool { return key == contract.KeyOwner || key == contract.KeySince })
	if want := map[string]string{"team": "a b", "k": "v=w", "version": "1.1", "backup": "true", "maxconn": "50"}; !maps.Equal(e.Service.Meta, want) {
		t.Errorf("meta: got %q, want %q", e.Service.Meta, want)
	}
	checks, err := c.Client.Agent().ChecksWithFilter("ServiceID == \"" + id + "\"")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, check := range checks {
		names = append(names, check.Name+" "+check.Type)
	}
	slices.Sort(names)
	if want := []string{"http http", "tcp tcp", "ttl ttl"}; !slices.Equal(names, want) {
		t.Errorf("checks: got %q, want %q", names, want)
	}
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if c.entry(t, "api", id) != nil {
		t.Error("it is registered after its end")
	}
}

func TestRegisteredOnlyOnceReady(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	port := freePort(t)
	id := "ready-" + strconv.Itoa(port)
	healthy := filepath.Join(t.TempDir(), "healthy")
	seen := c.record(t, id)
	p := start(t, c.env(), wrap(port, []string{"--id", id, "--check", "http:/healthz", "--leave-wait", "1ms"}, "--healthy", healthy)...)
	p.logs("status 503")
	if e := c.entry(t, "api", id); e != nil {
		t.Errorf("registered while it was not ready: %+v", e.Service)
	}
	if err := os.WriteFile(healthy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.registered(t, "api", id)
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if got := seen(); got[0] != "absent" || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, api.HealthCritical) }) {
		t.Errorf("a watcher saw %q, want it never critical", got)
	}
	if got := strings.Count(p.Stderr.String(), "program not ready"); got > 2 {
		t.Errorf("%d lines say that it is not ready, want one for each reason", got)
	}
}

// TestLeavesBeforeTheProgramHearsOfIt: when the program gets SIGTERM it asks
// Consul, and sees itself leaving, and still passing.
func TestLeavesBeforeTheProgramHearsOfIt(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	port := freePort(t)
	id := "order-" + strconv.Itoa(port)
	ask := "http://" + c.Address() + "/v1/health/service/api?filter=Service.ID==%22" + id + "%22"
	const wait = 700 * time.Millisecond
	p := start(t, c.env(), wrap(port, []string{"--id", id, "--check", "http:/healthz", "--leave-wait", wait.String()}, "--ask", ask, "--code", "6")...)
	c.registered(t, "api", id)
	seen := c.record(t, id)
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	answer := p.said("answer")
	if took := time.Since(began); took < wait {
		t.Errorf("the program heard of its end after %v, want the load balancers to have %v before", took, wait)
	}
	var entries []api.ServiceEntry
	if err := json.Unmarshal([]byte(answer), &entries); err != nil || len(entries) != 1 {
		t.Fatalf("the program saw %s (%v), want itself", answer, err)
	}
	since, err := time.Parse(time.RFC3339, entries[0].Service.Meta["pointsman-drain"])
	if err != nil || since.After(time.Now()) || entries[0].Checks.AggregatedStatus() != api.HealthPassing {
		t.Errorf("the program saw itself %s, leaving since %q, want passing, and a time before", entries[0].Checks.AggregatedStatus(), entries[0].Service.Meta["pointsman-drain"])
	}
	if got := p.wait(); got != 6 {
		t.Errorf("exit code %d, want the program's 6", got)
	}
	// Consul's check may come by when the program has ended, and the registration
	// has not. All have drained by then.
	got := slices.DeleteFunc(seen(), func(s string) bool { return s == "critical leaving" })
	if want := []string{"passing", "passing leaving", "absent"}; !slices.Equal(got, want) {
		t.Errorf("a watcher saw %q, want %q", got, want)
	}
}

func TestCrashDeregistersAtOnce(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(p *process, pid int){
		"by itself": func(p *process, pid int) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				p.t.Fatal(err)
			}
		},
		"while it leaves": func(p *process, pid int) {
			p.Signal(syscall.SIGTERM)
			p.logs("marked as leaving")
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				p.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := sharedConsul(t)
			port := freePort(t)
			id := "crash-" + strconv.Itoa(port)
			p := start(t, c.env(), wrap(port, []string{"--id", id, "--leave-wait", "1m"})...)
			pid := p.saidPID("pid")
			c.registered(t, "api", id)
			began := time.Now()
			crash(p, pid)
			if got := p.wait(); got != 137 {
				t.Errorf("exit code %d, want 137, of SIGKILL", got)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v, want at once", took)
			}
			if c.entry(t, "api", id) != nil {
				t.Error("it is registered after its end")
			}
			if strings.Contains(p.Stderr.String(), "graceful shutdown incomplete") {
				t.Error("the log calls it an error that no session was waited for")
			}
		})
	}
}

func TestProgramThatIsNeverReadyIsNeverRegistered(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	for name, end := range map[string]struct {
		flags []string
		end   func(*process)
		want  int
		says  string
	}{
		"and stopped by hand": {nil, func(p *process) { p.Signal(syscall.SIGTERM) }, 4, "leaving: cause=SIGTERM"},
		"and given up":        {[]string{"--ready-timeout", "3s"}, func(*process) {}, 125, `program stopped: error="program not ready within 3s: GET http://`},
		"and ended by itself": {nil, func(p *process) { _ = syscall.Kill(p.saidPID("pid"), syscall.SIGKILL) }, 137, "program ended unexpectedly: status=SIGKILL"},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			id := "never-" + strconv.Itoa(port)
			seen := c.record(t, id)
			flags := append([]string{"--id", id, "--check", "http:/healthz", "--leave-wait", "1m"}, end.flags...)
			p := start(t, c.env(), wrap(port, flags, "--healthy", "/no/such", "--code", "4")...)
			p.logs("status 503")
			began := time.Now()
			end.end(p)
			if got := p.wait(); got != end.want {
				t.Errorf("exit code %d, want %d", got, end.want)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v, though there was nothing to leave", took)
			}
			if got := p.Stderr.String(); !strings.Contains(got, end.says) {
				t.Errorf("stderr: got %q, want %q in it", got, end.says)
			}
			if got := seen(); !slices.Equal(got, []string{"absent"}) {
				t.Errorf("a watcher saw %q, want it never registered", got)
			}
		})
	}
}

func TestProgramRunsWithoutConsulAndIsRegisteredOnceItIsThere(t *testing.T) {
	t.Parallel()
	c := consul{proctest.PrepareConsul(t)}
	port := freePort(t)
	p := start(t, c.env(), wrap(port, []string{"--id", "away", "--leave-wait", "300ms"}, "--code", "3")...)
	p.logs("registration failed, retrying")
	c.start(t)
	c.registered(t, "api", "away")
	if got := strings.Count(p.Stderr.String(), "registration failed"); got != 1 {
		t.Errorf("%d lines say that registration failed, want one", got)
	}

	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 3 {
		t.Errorf("exit code %d, want the program's 3", got)
	}
	// 300 ms for the mark, 5 s for the deregistration (registrator.Leave).
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("to leave without Consul took %v, want it bounded", took)
	}
	p.logs("graceful shutdown incomplete")
}

func TestProgramThatEndsWithoutConsulEndsInBoundedTime(t *testing.T) {
	t.Parallel()
	p := start(t, nil, wrap(freePort(t), []string{"--leave-wait", "1m"})...) // nothing listens where Consul should
	pid := p.saidPID("pid")
	p.logs("registration failed, retrying")
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(); got != 137 {
		t.Errorf("exit code %d, want 137", got)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v, want it bounded", took)
	}
}

func TestRegistrationThatConsulRefusesStopsTheProgram(t *testing.T) {
	t.Parallel()
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Invalid service", http.StatusBadRequest)
	}))
	t.Cleanup(agent.Close)
	p := start(t, []string{"CONSUL_HTTP_ADDR=" + agent.URL}, wrap(freePort(t), []string{"--leave-wait", "1s"})...)
	if got := p.wait(); got != 125 {
		t.Errorf("exit code %d, want 125", got)
	}
	p.got("SIGTERM")
	p.logs("400 (Invalid service)")
}

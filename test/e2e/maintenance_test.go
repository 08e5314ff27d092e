package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// pair is a world with two load balancers that clients find in Consul.
type pair struct {
	*world
	lb1 *lab.Balancer
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{world: bareWorld(t)}
	for _, b := range []struct {
		name string
		at   **lab.Balancer
	}{{"lb0", &p.lb}, {"lb1", &p.lb1}} {
		lb, err := p.NewBalancer(b.name, p.consul, lab.Service{Name: service, Backend: "api_nodes"})
		p.must(err)
		p.must(lb.Join("lb"))
		p.must(lb.Start(p.ctx))
		*b.at = lb
	}
	p.nodes = p.startNodes("1.0", "old", 3)
	for _, lb := range p.both() {
		p.must(lb.Routes(p.ctx, 20*time.Second, service, lab.NodeIDs(p.nodes...)...))
		p.must(lb.Joined(p.ctx, 10*time.Second, "passing"))
	}
	return p
}

func (p *pair) both() []*lab.Balancer { return []*lab.Balancer{p.lb, p.lb1} }

// discovering starts clients that find their load balancers in Consul, and
// waits until both have requests.
func (p *pair) discovering() []*lab.Client {
	p.Helper()
	var clients []*lab.Client
	for i := range 2 {
		c, err := p.StartClientOf(fmt.Sprintf("client%d", i), 100, p.consul, "lb")
		p.must(err)
		clients = append(clients, c)
	}
	for _, lb := range p.both() {
		p.takes(lb)
	}
	return clients
}

// takes waits until requests come to a load balancer.
func (p *pair) takes(lb *lab.Balancer) {
	p.Helper()
	from := p.requests(lb)
	p.must(lab.Until(p.ctx, 15*time.Second, lb.Name+" has 50 more requests", func() error {
		if got := p.requests(lb) - from; got < 50 {
			return fmt.Errorf("it has %d", got)
		}
		return nil
	}))
}

func (p *pair) requests(lb *lab.Balancer) int {
	p.Helper()
	n, err := lb.Requests(p.ctx, "api_nodes")
	p.must(err)
	return n
}

// health is HAProxy's own answer.
func (p *pair) health(lb *lab.Balancer) error {
	return p.Get(p.ctx, fmt.Sprintf("http://127.0.0.1:%d/", lb.HealthPort), time.Second)
}

// TestMaintenanceLosesNoRequest is the upkeep of one of two load balancers, its
// HAProxy replaced meanwhile.
func TestMaintenanceLosesNoRequest(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	clients := p.discovering()
	pid, err := p.lb1.WorkerPID(p.ctx)
	p.must(err)

	m, err := p.lb1.Maintenance(p.ctx, "on", "--wait", "20s")
	p.must(err)
	if !m.Maintenance || !m.Quiet || m.UnderWay != 0 || m.LoadBalancer != "lb1" || m.InFile == nil || !*m.InFile {
		t.Errorf("maintenance on: got %+v, want it quiet, and in the file", m)
	}
	t.Logf("quiet after %.1f s", m.Waited)
	p.must(p.lb1.Joined(p.ctx, time.Second, "critical"))
	before := p.requests(p.lb1)
	p.takes(p.lb) // the other takes all
	if got := p.requests(p.lb1); got != before {
		t.Errorf("lb1 got %d requests in maintenance, want none", got-before)
	}
	if got, err := p.lb1.WorkerPID(p.ctx); err != nil || got != pid {
		t.Errorf("HAProxy's worker is pid %d (%v), was %d: it was reloaded", got, err, pid)
	}

	p.must(p.lb1.HAProxy.Stop(10 * time.Second))
	p.must(p.lb1.StartHAProxy(p.ctx))
	if err := p.health(p.lb1); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("health of the new HAProxy: got %v, want 503: still in maintenance", err)
	}
	p.must(p.lb1.Ready(p.ctx, 10*time.Second))
	p.takes(p.lb)
	if m, err = p.lb1.Maintenance(p.ctx, "status"); err != nil || !m.Maintenance || m.UnderWay != 0 {
		t.Errorf("status: got %+v, %v, want it in maintenance", m, err)
	}
	if s, err := p.lb1.State(p.ctx); err != nil || !s.HAProxy.Maintenance {
		t.Errorf("state: got %+v, %v, want maintenance", s.HAProxy, err)
	}
	if v, err := p.lb1.Metric(p.ctx, "pointsman_maintenance"); err != nil || v != 1 {
		t.Errorf("pointsman_maintenance: got %v, %v, want 1", v, err)
	}
	if got := p.requests(p.lb1); got != 0 {
		t.Errorf("the new HAProxy of lb1 got %d requests in maintenance, want none", got)
	}

	m, err = p.lb1.Maintenance(p.ctx, "off")
	p.must(err)
	if m.Maintenance || m.InFile == nil || !*m.InFile {
		t.Errorf("maintenance off: got %+v, want it in rotation, and so in the file", m)
	}
	p.must(p.lb1.Joined(p.ctx, 5*time.Second, "passing"))
	p.takes(p.lb1)
	p.mustLoseNothing(clients)

	log, err := os.ReadFile(p.lb1.Sidecar.Log)
	p.must(err)
	for words, want := range map[string]int{"maintenance on": 1, "maintenance off": 1, "drift corrected": 0} {
		if got := strings.Count(string(log), words); got != want {
			t.Errorf("log: %d lines with %q, want %d", got, words, want)
		}
	}
	if sum := p.driftOf(p.lb1); sum != 0 {
		t.Errorf("drift corrections: got %v, want 0", sum)
	}
}

func (p *pair) driftOf(lb *lab.Balancer) float64 {
	p.Helper()
	v, err := lb.Metric(p.ctx, `pointsman_drift_corrections_total{service="api"}`)
	p.must(err)
	return v
}

// What Consul checks is HAProxy, and not the sidecar.
func TestAKilledSidecarDoesNotTakeItsLoadBalancerOut(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	clients := p.discovering()
	p.must(p.lb1.Sidecar.Kill())
	for range 3 { // as many looks of Consul, at least
		p.must(p.lb1.Joined(p.ctx, time.Second, "passing"))
		p.takes(p.lb1)
		p.takes(p.lb1)
	}

	// Maintenance needs no sidecar, only its word in the file.
	m, err := p.lb1.Maintenance(p.ctx, "on", "--wait", "6s")
	if err == nil || !m.Maintenance || !m.Quiet || m.InFile == nil || *m.InFile || !strings.Contains(err.Error(), "is the sidecar running?") {
		t.Errorf("maintenance on: got %+v, %v, want all but the file", m, err)
	}
	p.must(p.lb1.Joined(p.ctx, time.Second, "critical"))

	// A sidecar that starts finds it so, and leaves it so.
	p.must(p.lb1.StartSidecar())
	p.must(p.lb1.Ready(p.ctx, 15*time.Second))
	p.must(lab.Until(p.ctx, 5*time.Second, "the file says so", func() error {
		if m, err := p.lb1.Maintenance(p.ctx, "status"); err != nil || !m.Maintenance || m.InFile == nil || !*m.InFile {
			return fmt.Errorf("%+v, %w", m, err)
		}
		return nil
	}))
	_, err = p.lb1.Maintenance(p.ctx, "off")
	p.must(err)
	p.takes(p.lb1)
	p.mustLoseNothing(clients)
}

// A sidecar that stops in order leaves the registration: HAProxy keeps running.
func TestAStoppedSidecarLeavesItsLoadBalancerIn(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	clients := p.discovering()
	p.must(p.lb1.Sidecar.Stop(10 * time.Second))
	p.must(p.lb1.Joined(p.ctx, time.Second, "passing"))
	p.takes(p.lb1)
	p.must(p.lb1.StartSidecar())
	p.must(p.lb1.Ready(p.ctx, 15*time.Second))
	p.takes(p.lb1)
	p.must(p.lb1.Joined(p.ctx, time.Second, "passing"))
	p.mustLoseNothing(clients)
}

// A reload while the command waits brings a worker that knows only what its file says, as
// no sidecar has written it. The command takes that one out, too.
func TestMaintenanceOn_ReloadedMeanwhile_NewWorkerIsOutToo(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.must(p.lb1.Sidecar.Kill())
	pid, err := p.lb1.WorkerPID(p.ctx)
	p.must(err)
	slow := make(chan error, 1)
	go func() { slow <- p.Get(p.ctx, p.lb1.URL(service)+"slow?ms=6000", 20*time.Second) }()
	done := make(chan error, 1)
	go func() { _, err := p.lb1.Maintenance(p.ctx, "on", "--wait", "15s"); done <- err }()
	p.must(lab.Until(p.ctx, 10*time.Second, "the first worker is out", func() error { return p.isOut(p.lb1) }))

	p.must(p.lb1.HAProxy.Signal(syscall.SIGUSR2))
	p.must(lab.Until(p.ctx, 10*time.Second, "another worker is out", func() error {
		if now, err := p.lb1.WorkerPID(p.ctx); err != nil || now == pid {
			return fmt.Errorf("worker %d (%w)", now, err)
		}
		return p.isOut(p.lb1)
	}))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "is the sidecar running?") {
		t.Errorf("maintenance on: %v, want that only the file does not say so", err)
	}
	if err := p.isOut(p.lb1); err != nil {
		t.Errorf("after the command: %v", err)
	}
	if err := <-slow; err != nil {
		t.Errorf("the slow request: %v", err)
	}
}

// isOut returns an error while HAProxy says that it takes traffic.
func (p *pair) isOut(lb *lab.Balancer) error {
	if err := p.health(lb); err == nil || !strings.Contains(err.Error(), "503") {
		return fmt.Errorf("health: %w, want 503", err)
	}
	return nil
}

func TestMaintenanceTellsWhatKeepsItFromBeingQuiet(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	slow := make(chan error, 1)
	go func() { slow <- p.Get(p.ctx, p.lb1.URL(service)+"slow?ms=8000", 20*time.Second) }()
	p.must(lab.Until(p.ctx, 10*time.Second, "the slow request is under way", func() error {
		if m, err := p.lb1.Maintenance(p.ctx, "status"); err != nil || m.UnderWay != 1 {
			return fmt.Errorf("%+v, %w", m, err)
		}
		return nil
	}))
	m, err := p.lb1.Maintenance(p.ctx, "on", "--wait", "4s")
	if err == nil || m.UnderWay != 1 || m.Quiet || !strings.Contains(err.Error(), "1 requests are still in flight") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("maintenance on: got %+v, %v, want the request told, and exit code 1", m, err)
	}
	m, err = p.lb1.Maintenance(p.ctx, "off", "--wait", "0s")
	p.must(err)
	if m.Maintenance || p.isOut(p.lb1) == nil {
		t.Errorf("maintenance off --wait 0s: got %+v, want it in rotation", m)
	}
	m, err = p.lb1.Maintenance(p.ctx, "on", "--wait", "0s")
	p.must(err)
	if !m.Maintenance || m.Quiet || m.UnderWay != 1 || p.isOut(p.lb1) != nil {
		t.Errorf("maintenance on --wait 0s: got %+v, want it out at once, with a request under way", m)
	}
	m, err = p.lb1.Maintenance(p.ctx, "on")
	p.must(err)
	if !m.Quiet || m.UnderWay != 0 {
		t.Errorf("maintenance on, again: got %+v, want it quiet", m)
	}
	if err := <-slow; err != nil {
		t.Errorf("the slow request: %v", err)
	}
}

func TestMaintenanceWithoutAHealthAnswerSaysWhatToSet(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	path := dir + "/sidecar.yaml"
	if err := os.WriteFile(path, []byte(settings(dir, programs.HAProxy, "127.0.0.1:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		environ string
		args    []string
		code    int
		want    string
	}{
		{"", []string{"on"}, 2, "haproxy.health.bind"},
		{"", []string{"on", "--wait", "-1s"}, 2, "haproxy.health.bind"},
		{"POINTSMAN_HAPROXY_HEALTH_BIND=127.0.0.1:8405", []string{"on", "--wait", "-1s"}, 2, "--wait"},
		{"POINTSMAN_HAPROXY_HEALTH_BIND=127.0.0.1:8405", []string{"off"}, 1, "admin.sock"},
		{"POINTSMAN_HAPROXY_HEALTH_BIND=127.0.0.1:8405", []string{"perhaps"}, 2, "perhaps"},
		{"POINTSMAN_HAPROXY_HEALTH_BIND=127.0.0.1:8405", nil, 2, "on, off or status"},
	} {
		out, code := sidecar(t, []string{c.environ, "POINTSMAN_CONFIG=" + path}, append([]string{"maintenance"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%q %q: exit code %d, output %q, want %d and %q", c.environ, c.args, code, out, c.code, c.want)
		}
	}
}

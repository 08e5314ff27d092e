// Package e2e tests the whole from outside, on real processes: HTTP, HAProxy's
// own sockets and the programs' exit codes. It imports nothing of ours but the
// lab.
package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

var programs lab.Programs

func TestMain(m *testing.M) { os.Exit(lab.Tests(m, 6, &programs)) }

// world is a lab with one load balancer in front of nodes of one service.
type world struct {
	*testing.T
	*lab.Lab
	ctx    context.Context
	consul *lab.Consul
	lb     *lab.Balancer
	nodes  []*lab.Node
}

const service = "api"

// newWorld starts Consul and a load balancer with nodes of version 1.0. What
// it started ends with the test; a test that failed leaves the logs in its
// output.
func newWorld(t *testing.T, nodes int, settings ...string) *world {
	t.Helper()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	for _, s := range settings {
		w.must(w.lb.SetExtra(s))
	}
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "old", nodes)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	return w
}

// bareWorld is a lab with Consul only.
func bareWorld(t *testing.T) *world {
	t.Helper()
	w := emptyWorld(t)
	var err error
	w.consul, err = w.StartConsul(w.ctx, 0)
	w.must(err)
	return w
}

// worldOf is a lab with Consul and lb0, a load balancer of the services that is not started.
func worldOf(t *testing.T, services ...lab.Service) *world {
	t.Helper()
	w := bareWorld(t)
	w.newBalancer(services...)
	return w
}

func (w *world) newBalancer(services ...lab.Service) {
	w.Helper()
	var err error
	w.lb, err = w.NewBalancer("lb0", w.consul, services...)
	w.must(err)
}

// emptyWorld is a lab in which nothing runs.
func emptyWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	l, err := lab.New(lab.Config{Programs: programs, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Lab: l, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			w.showLogs()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) showLogs() {
	logs, err := os.ReadDir(w.Dir())
	if err != nil {
		w.Log(err)
	}
	for _, f := range logs {
		if f.IsDir() {
			continue
		}
		content, err := os.ReadFile(w.Path(f.Name()))
		if err != nil {
			w.Log(err)
			continue
		}
		const most = 6000
		w.Logf("---- %s\n%s", f.Name(), content[max(0, len(content)-most):])
	}
}

func (w *world) startNodes(version, prefix string, count int) []*lab.Node {
	w.Helper()
	var nodes []*lab.Node
	for i := range count {
		n, err := w.StartNode(w.ctx, w.consul, service, fmt.Sprintf("%s%d", prefix, i), version)
		w.must(err)
		nodes = append(nodes, n)
	}
	return nodes
}

// registerAt registers an instance that listens there.
func (w *world) registerAt(at net.Addr, service, id string, meta map[string]string, tags ...string) {
	w.Helper()
	w.must(w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: id, Name: service, Address: at.(*net.TCPAddr).IP.String(), Port: at.(*net.TCPAddr).Port, Meta: meta, Tags: tags,
	}))
}

// load starts two clients that send GETs and POSTs, or GETs only.
func (w *world) load(args ...string) []*lab.Client {
	w.Helper()
	var clients []*lab.Client
	for i := range 2 {
		c, err := w.StartClient(fmt.Sprintf("client%d", i), 100, []string{w.lb.URL(service)}, args...)
		w.must(err)
		clients = append(clients, c)
	}
	w.must(lab.Until(w.ctx, 10*time.Second, "the clients send", func() error {
		for _, c := range clients {
			if c.Progress().Requests == 0 {
				return fmt.Errorf("%s has sent nothing", c.Name)
			}
		}
		return nil
	}))
	return clients
}

// mustLoseNothing stops the clients and fails the test if a request failed.
func (w *world) mustLoseNothing(clients []*lab.Client) (reports []lab.Report) {
	w.Helper()
	for _, c := range clients {
		r, err := c.Finish(15 * time.Second)
		w.must(err)
		if r.Failed != 0 {
			w.Errorf("%s: %d of %d requests failed: %v", c.Name, r.Failed, r.Requests, r.Failures)
		}
		if r.Requests == 0 {
			w.Errorf("%s has sent no request", c.Name)
		}
		reports = append(reports, r)
	}
	return reports
}

// workerPID is the pid of HAProxy's worker: it is the same as long as HAProxy
// has not been reloaded.
func (w *world) workerPID() int {
	w.Helper()
	pid, err := w.lb.WorkerPID(w.ctx)
	w.must(err)
	return pid
}

func (w *world) state() lab.State {
	w.Helper()
	s, err := w.lb.State(w.ctx)
	w.must(err)
	return s
}

// steps sums the sidecar's steps of one kind, whatever their reason; "" is all
// kinds.
func (w *world) steps(kind string) (sum float64) {
	w.Helper()
	text, err := w.lb.Metrics(w.ctx)
	w.must(err)
	return sumSamples(w.T, text, "pointsman_steps_total", kind)
}

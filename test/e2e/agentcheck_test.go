package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// abrupt is a program that answers POSTs after a moment and ends at once on SIGTERM,
// in the middle of requests.
const abrupt = `
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_GET(self):
        self.answer("well")
    def do_POST(self):
        time.sleep(0.02)
        self.answer(sys.argv[2])
    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    def handle_error(self, *args):
        pass
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
`

// abruptWorld is a load balancer with two of that program, under POSTs. Each has
// an agent port if its service asks there.
type abruptWorld struct {
	*world
	python string
	nodes  map[string]*lab.Wrapped
	load   *lab.Hammering
}

func newAbruptWorld(t *testing.T, settings string, names ...string) *abruptWorld {
	t.Helper()
	python, err := lab.Python()
	if err != nil {
		t.Fatal(err)
	}
	w := &abruptWorld{world: bareWorld(t), python: python, nodes: map[string]*lab.Wrapped{}}
	w.must(os.WriteFile(w.Path("abrupt.py"), []byte(abrupt), 0o644))
	w.newBalancer(lab.Service{Name: "web", Extra: settings})
	w.must(w.lb.Start(w.ctx))
	for _, name := range names {
		w.start(name)
	}
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", names...))
	w.load = lab.HammerBy(w.ctx, "POST", w.lb.URL("web"), 16)
	w.must(lab.Until(w.ctx, 10*time.Second, "all answer", answered(w.load, names)))
	return w
}

func (w *abruptWorld) start(name string, flags ...string) *lab.Wrapped {
	w.Helper()
	port, err := w.Port()
	w.must(err)
	flags = append([]string{"--agent-port", strconv.Itoa(port), "--version", "1.0"}, flags...)
	w.nodes[name], err = w.StartWrapped(w.consul, "web", name, flags, func(port int) []string {
		return []string{w.python, "-u", w.Path("abrupt.py"), strconv.Itoa(port), name}
	})
	w.must(err)
	return w.nodes[name]
}

// leaves asks one to stop, and waits until it has.
func (w *abruptWorld) leaves(name string) {
	w.Helper()
	n := w.nodes[name]
	w.must(n.Terminate())
	if err := n.Wait(30 * time.Second); err != nil && n.ExitCode() != 143 { // by SIGTERM
		w.Error(err)
	}
}

func (w *abruptWorld) mustLoseNone() {
	w.Helper()
	requests, failures := w.load.Stop()
	for _, f := range failures[:min(len(failures), 5)] {
		w.Errorf("a request failed: %v", f)
	}
	w.Logf("%d requests, %d failed", requests, len(failures))
}

const asksAgents = "    agent_check: {from_meta: true}\n    check: {path: /healthz}\n"

// Issue 14: HAProxy was never told that the node leaves, and the requests under way
// failed when it ended.
func TestAgentCheck_SidecarOrConsulDead_LeavingNodeLosesNothing(t *testing.T) {
	t.Parallel()
	kill := func(_ *testing.T, p *lab.Process) error { return p.Kill() }
	freeze := func(t *testing.T, p *lab.Process) error {
		t.Helper()
		t.Cleanup(func() { _ = p.Thaw() }) // it may have ended
		return p.Freeze()
	}
	for name, c := range map[string]struct {
		sidecar, consul func(*testing.T, *lab.Process) error
	}{
		"sidecar killed":            {kill, nil},
		"sidecar frozen":            {freeze, nil},
		"Consul killed":             {nil, kill},
		"Consul frozen":             {nil, freeze},
		"sidecar and Consul killed": {kill, kill},
		"sidecar and Consul frozen": {freeze, freeze},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newAbruptWorld(t, asksAgents, "web-1", "web-2")
			if c.sidecar != nil {
				w.must(c.sidecar(t, w.lb.Sidecar))
			}
			if c.consul != nil {
				w.must(c.consul(t, w.consul.Process))
			}
			began := time.Now()
			w.leaves("web-1")
			if took := time.Since(began); took > 10*time.Second { // leave_wait, and 5 s for the deregistration
				t.Errorf("it took %s to leave", took)
			}
			w.mustLoseNone()
		})
	}
}

// While all is well the sidecar decides: no server goes before its replacement is
// up, none needs a reload, and an operator's drain stays.
func TestAgentCheck_AllIsWell_SidecarDecides(t *testing.T) {
	t.Parallel()
	w := newAbruptWorld(t, asksAgents, "web-1", "web-2")
	pid := w.workerPID()
	out, err := w.lb.Runtime(w.ctx, "show servers state "+"web")
	w.must(err)
	for name := range w.nodes {
		meta, _, err := w.consul.Client.Agent().Service(name, nil)
		w.must(err)
		if port := meta.Meta["pointsman-agent-port"]; port == "" || !strings.Contains(out, " "+port+"\n") {
			t.Errorf("%s: agent port %q is not in\n%s", name, port, out)
		}
	}
	w.start("web-3", "--version", "1.1")
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", "web-1", "web-2", "web-3"))
	w.leaves("web-1")
	w.leaves("web-2")
	w.must(w.lb.Routes(w.ctx, 10*time.Second, "web", "web-3"))
	w.mustLoseNone()
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
}

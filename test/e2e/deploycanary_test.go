package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// controlled is two load balancers, and nodes that live in the test: the commands of
// `pointsman deploy` ask it over HTTP, so that a test can make a version fail or slow.
type controlled struct {
	*world
	lbs     []*lab.Balancer
	pid     []int
	control *httptest.Server

	mu      sync.Mutex
	nodes   map[string]*controlledNode // by ID
	fail    int                        // at how many requests 1.1 fails once; 0: never
	served  int                        // requests that 1.1 has answered
	slow    time.Duration              // what an answer takes, three times as long of 1.1
	crashes bool                       // the servers of 1.1 end and come back
	ended   bool                       // the test
}

type controlledNode struct {
	version string
	server  *http.Server
	served  int
	at      string
}

func newControlled(t *testing.T, nodes int, settings ...string) *controlled {
	t.Helper()
	c := &controlled{world: bareWorld(t), nodes: map[string]*controlledNode{}}
	for n := range 2 {
		lb, err := c.NewBalancer(fmt.Sprint("lb", n), c.consul, lab.Service{Name: "shop", Extra: "    slots: {min: 12}\n" + strings.Join(settings, "")})
		c.must(err)
		c.must(lb.Start(c.ctx))
		c.lbs = append(c.lbs, lb)
	}
	c.lb = c.lbs[0]
	mux := http.NewServeMux()
	answer := func(do func(*http.Request) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := do(r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	}
	mux.HandleFunc("/start", answer(func(r *http.Request) error { return c.startNode(r.FormValue("id"), r.FormValue("version")) }))
	mux.HandleFunc("/stop", answer(func(r *http.Request) error { return c.stopNode(r.FormValue("id")) }))
	c.control = httptest.NewServer(mux)
	t.Cleanup(c.control.Close)
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = true
		for _, n := range c.nodes {
			_ = n.server.Close()
		}
	})
	if code, out := c.deploy("1.0", "--count", fmt.Sprint(nodes)); code != 0 {
		t.Fatalf("the first deployment: %d, %s", code, out)
	}
	for _, lb := range c.lbs {
		pid, err := lb.WorkerPID(c.ctx)
		c.must(err)
		c.pid = append(c.pid, pid)
	}
	return c
}

func (c *controlled) startNode(id, version string) error {
	listener, err := (&net.ListenConfig{}).Listen(c.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	n := &controlledNode{version: version, at: listener.Addr().String()}
	c.mu.Lock()
	c.nodes[id] = n
	c.mu.Unlock()
	c.serve(n, listener)
	at := netip.MustParseAddrPort(n.at)
	return c.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: id, Name: "shop", Address: at.Addr().String(), Port: int(at.Port()), Meta: map[string]string{"version": version},
	})
}

func (c *controlled) serve(n *controlledNode, listener net.Listener) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, n) }), ReadHeaderTimeout: 10 * time.Second}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		_ = listener.Close() // it was to take the place of one that has crashed
		return
	}
	n.server = server
	go func() { _ = server.Serve(listener) }() // until it is closed
}

func (c *controlled) answer(w http.ResponseWriter, r *http.Request, n *controlledNode) {
	c.mu.Lock()
	slow, isBad := c.slow, false
	if n.version == "1.1" && r.URL.Path != "/healthz" {
		n.served++
		c.served++
		isBad = c.fail > 0 && n.served%c.fail == 0
		slow *= 3
	}
	c.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
	}
	if isBad {
		http.Error(w, "bad canary", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, n.version)
}

// crash ends the servers of 1.1 and starts them again for half a second, until the test
// ends. They are away for as long as HAProxy's checks need to notice.
func (c *controlled) crash() {
	for c.ctx.Err() == nil {
		c.mu.Lock()
		var down []*controlledNode
		for _, n := range c.nodes {
			if c.crashes && n.version == "1.1" && n.served > 5 {
				down = append(down, n)
				_ = n.server.Close()
			}
		}
		c.mu.Unlock()
		c.pause(3 * time.Second)
		for _, n := range down {
			if listener, err := (&net.ListenConfig{}).Listen(c.ctx, "tcp", n.at); err == nil {
				c.serve(n, listener)
			}
		}
		c.pause(500 * time.Millisecond)
	}
}

func (c *controlled) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.ctx.Done():
	}
}

// stopNode takes a node out as a program does that leaves.
func (c *controlled) stopNode(id string) error {
	c.mu.Lock()
	n := c.nodes[id]
	delete(c.nodes, id)
	c.mu.Unlock()
	if n == nil {
		return fmt.Errorf("no node %s", id)
	}
	if err := c.consul.Client.Agent().ServiceDeregister(id); err != nil {
		return err
	}
	for _, lb := range c.lbs {
		if err := lb.Drained(c.ctx, "shop", id, 20*time.Second); err != nil {
			return err
		}
	}
	return n.server.Close()
}

func (c *controlled) command(version string, args ...string) *exec.Cmd {
	return exec.CommandContext(c.ctx, programs.Sidecar, append([]string{
		"deploy", "--consul-address", c.consul.Address(), "--service", "shop", "--version", version, "--min-healthy", "1s",
		"--start", "curl -fsS '" + c.control.URL + "/start?id='$DEPLOY_INSTANCE'&version='$DEPLOY_VERSION",
		"--stop", "curl -fsS '" + c.control.URL + "/stop?id='$DEPLOY_INSTANCE",
	}, args...)...)
}

func (c *controlled) deploy(version string, args ...string) (code int, out string) {
	c.Helper()
	cmd := c.command(version, args...)
	text, _ := cmd.CombinedOutput() // the code says it
	c.Logf("deploy %s %v: %d\n%s", version, args, cmd.ProcessState.ExitCode(), text)
	return cmd.ProcessState.ExitCode(), string(text)
}

// runs returns the number of nodes of each version.
func (c *controlled) runs() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for _, n := range c.nodes {
		out[n.version]++
	}
	return out
}

func (c *controlled) mustRun(want map[string]int) {
	c.Helper()
	if got := c.runs(); fmt.Sprint(got) != fmt.Sprint(want) {
		c.Errorf("nodes: got %v, want %v", got, want)
	}
}

// rollout is the document of the service.
func (c *controlled) rollout() (state, reason string, shares map[string]int) {
	c.Helper()
	pair, _, err := c.consul.Client.KV().Get(rolloutKey, nil)
	c.must(err)
	var d struct {
		State, Reason string
		Shares        map[string]int
	}
	if pair != nil {
		c.must(json.Unmarshal(pair.Value, &d))
	}
	return d.State, d.Reason, d.Shares
}

func (c *controlled) untilShare(canary int) {
	c.Helper()
	c.must(lab.Until(c.ctx, 40*time.Second, fmt.Sprintf("1.1 has %d %%", canary), func() error {
		if state, _, shares := c.rollout(); shares["1.1"] != canary || canary > 0 && state != "running" && state != "promoted" {
			return fmt.Errorf("it has %v, %s", shares, state)
		}
		return nil
	}))
}

func (c *controlled) hammer(connections int) (ended func() (requests int, failures []error)) {
	var all []*lab.Hammering
	for _, lb := range c.lbs {
		all = append(all, lab.Hammer(c.ctx, lb.URL("shop"), connections))
	}
	return func() (requests int, failures []error) {
		c.Helper()
		for _, h := range all {
			n, failed := h.Stop()
			requests += n
			failures = append(failures, failed...)
		}
		for n, lb := range c.lbs {
			if pid, err := lb.WorkerPID(c.ctx); err != nil || pid != c.pid[n] {
				c.Errorf("%s was reloaded", lb.Name)
			}
		}
		return requests, failures
	}
}

// The new nodes start without traffic, get it step by step, and the old ones are
// stopped after the last; no request fails and nothing is reloaded. It is on record,
// and the next plain deployment works.
func TestDeployCanary_GoodVersion_PromotedAndOldOnesStopped(t *testing.T) {
	t.Parallel()
	c := newControlled(t, 3)
	ended := c.hammer(4)
	code, out := c.deploy("1.1", "--canary", "20,50,100", "--interval", "6s")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, words := range []string{
		"canary running: 20% of the traffic for 1.1", "1.1 has 20% on lb0, 20% on lb1", "canary running: 50%", "1.1 has 50% on lb0, 50% on lb1",
		"canary promoted: 100%", "0.00 % of ", "new instances stayed live", "old instances drained: 3 on 2 load balancers", "shop 1.1 deployed",
	} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q", words)
		}
	}
	requests, failures := ended()
	if len(failures) > 0 || requests < 1000 {
		t.Errorf("%d requests, failed: %v", requests, failures)
	}
	c.mustRun(map[string]int{"1.1": 3})
	if state, _, shares := c.rollout(); state != "promoted" || len(shares) > 0 {
		t.Errorf("the rollout is %s, %v, want that it has ended", state, shares)
	}
	if out, err := c.lb.Operate(c.ctx, "deploy", "history", "--service", "shop"); err != nil || !strings.Contains(out, "1.0 → 1.1") {
		t.Errorf("history: %s, %v", out, err)
	}
	if out, err := c.lb.Operate(c.ctx, "deploy", "status", "--service", "shop"); err != nil || !strings.Contains(out, "✓ canary: 20% of the traffic for 1.1") {
		t.Errorf("status: %s, %v", out, err)
	}
	if code, _ := c.deploy("1.1", "--canary", "20,50,100", "--interval", "6s"); code != 0 {
		t.Errorf("the same again: %d", code)
	}
	if code, _ := c.deploy("1.2"); code != 0 {
		t.Errorf("a plain one after it: %d", code)
	}
	c.mustRun(map[string]int{"1.2": 3})
}

// A canary that is worse is aborted within two intervals: its nodes are stopped again,
// and no more requests are touched than its share of them.
func TestDeployCanary_WorseVersion_AbortedAndOldOnesServe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make     func(*controlled)
		reason   string
		interval time.Duration
	}{
		"5 % errors":         {func(c *controlled) { c.fail = 20 }, "more errors: ", 10 * time.Second},
		"three times slower": {func(c *controlled) { c.slow = 15 * time.Millisecond }, "slower: ", 20 * time.Second},
		"crash loop":         {func(c *controlled) { c.crashes = true }, "", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newControlled(t, 3)
			c.make(w)
			go w.crash()
			ended := w.hammer(6)
			code, out := w.deploy("1.1", "--canary", "30,100", "--interval", c.interval.String())
			requests, failures := ended()
			w.mustRun(map[string]int{"1.0": 3})
			state, reason, shares := w.rollout()
			if code != 5 || state != "aborted" || shares["1.1"] != 0 || !strings.HasPrefix(reason, c.reason) || !strings.Contains(out, "the rollout was aborted by ") {
				t.Fatalf("exit code %d, the rollout is %s, %v, %s", code, state, shares, reason)
			}
			var d struct {
				History []struct {
					Action string
					At     time.Time
				}
			}
			pair, _, err := w.consul.Client.KV().Get(rolloutKey, nil)
			w.must(err)
			w.must(json.Unmarshal(pair.Value, &d))
			if took := d.History[0].At.Sub(d.History[1].At); d.History[0].Action != "abort" || d.History[1].Action != "start" || took > 2*c.interval {
				t.Errorf("aborted after %s, want two intervals at most: %+v", took, d.History)
			}
			w.mu.Lock()
			served := w.served
			w.mu.Unlock()
			// A share is at most one point off by its weights.
			if served == 0 || served*100 > 31*requests {
				t.Errorf("%d of %d requests were answered by 1.1, want at most its share of 30 %%", served, requests)
			}
			if !w.crashes && len(failures) > served {
				t.Errorf("%d requests failed, and 1.1 has answered %d", len(failures), served)
			}
			t.Logf("%s: %d of %d requests were answered by 1.1, %d failed; %s", name, served, requests, len(failures), reason)

			// It keeps its share of 0, so without --canary it is refused, and the way out works.
			code, out = w.deploy("1.1")
			if code != 1 || !strings.Contains(out, "its rollout gives 1.1 no share of the traffic (aborted: 1.0 100%, 1.1 0%, by lb") || !strings.Contains(out, "pointsman rollout end shop") {
				t.Errorf("a plain one after it: %d, %s", code, out)
			}
			w.mustRun(map[string]int{"1.0": 3})
		})
	}
}

// Interrupted, the rollout goes on without the command; a second command takes it up
// where it is. While it walks, others are refused.
func TestDeployCanary_Interrupted_TakenUpByTheNextRun(t *testing.T) {
	t.Parallel()
	c := newControlled(t, 2)
	ended := c.hammer(2)
	args := []string{"--canary", "20,60,100", "--interval", "8s", "--analysis=false"}
	cmd := c.command("1.1", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	c.must(cmd.Start())
	c.untilShare(20)
	if code, out := c.deploy("1.1", args...); code != 8 || !strings.Contains(out, "another deployment is under way") {
		t.Errorf("a second one at the same time: %d, %s", code, out)
	}
	c.must(cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), "pointsman rollout status shop") {
		t.Errorf("interrupted: %d, %s", code, said.String())
	}
	if code, out := c.deploy("1.1"); code != 1 || !strings.Contains(out, "a rollout of 1.1 is running, by ") {
		t.Errorf("a plain one meanwhile: %d, %s", code, out)
	}
	if code, out := c.deploy("1.2", args...); code != 1 || !strings.Contains(out, "a rollout of 1.1 is running, by ") {
		t.Errorf("another canary meanwhile: %d, %s", code, out)
	}
	if code, out := c.deploy("1.1", "--canary", "30,100"); code != 1 || !strings.Contains(out, "give --canary 20,60,100 --interval 8s --analysis=false to continue") {
		t.Errorf("other steps: %d, %s", code, out)
	}
	c.mustRun(map[string]int{"1.0": 2, "1.1": 2})
	c.untilShare(60) // without it
	code, out := c.deploy("1.1", args...)
	if code != 0 || !strings.Contains(out, "continuing the rollout of 1.1: ") || !strings.Contains(out, "shop 1.1: 0 to start, 2 old to stop") {
		t.Errorf("taken up: %d, %s", code, out)
	}
	c.mustRun(map[string]int{"1.1": 2})
	if requests, failures := ended(); len(failures) > 0 || requests < 500 {
		t.Errorf("%d requests, failed: %v", requests, failures)
	}
}

// An operator aborts it from elsewhere, and pauses the next one: the command says who,
// and its exit codes differ.
func TestDeployCanary_OperatorsAbortAndPause_ExitCodesTell(t *testing.T) {
	t.Parallel()
	c := newControlled(t, 1)
	during := func(at int, what []string, args ...string) (int, string) {
		t.Helper()
		cmd := c.command("1.1", append([]string{"--canary", "20,100", "--interval", "1m"}, args...)...)
		var out bytes.Buffer
		cmd.Stderr = &out
		c.must(cmd.Start())
		c.untilShare(at)
		if text, err := c.lb.Operate(c.ctx, append([]string{"rollout"}, what...)...); err != nil {
			t.Errorf("%v: %s, %v", what, text, err)
		}
		_ = cmd.Wait() // the code is returned
		t.Log(out.String())
		return cmd.ProcessState.ExitCode(), out.String()
	}
	if code, out := during(20, []string{"abort", "shop", "--reason", "I do not like it"}); code != 5 || !strings.Contains(out, `: "I do not like it"`) {
		t.Errorf("abort: %d, %s", code, out)
	}
	c.mustRun(map[string]int{"1.0": 1})
	if code, out := during(20, []string{"pause", "shop"}, "--pause-timeout", "2s"); code != 3 || !strings.Contains(out, "paused at 20% by ") {
		t.Errorf("pause: %d, %s", code, out)
	}
	c.mustRun(map[string]int{"1.0": 1, "1.1": 1})
	if text, err := c.lb.Operate(c.ctx, "rollout", "promote", "shop", "--full"); err != nil {
		t.Errorf("%s, %v", text, err)
	}
	if code, _ := c.deploy("1.1", "--canary", "20,100", "--interval", "1m"); code != 0 {
		t.Errorf("the next run after the promotion: %d", code)
	}
	c.mustRun(map[string]int{"1.1": 1})
	if out, err := c.lb.Operate(c.ctx, "deploy", "history", "--service", "shop"); err != nil || !strings.Contains(out, "aborted") || !strings.Contains(out, "paused") {
		t.Errorf("history: %s, %v", out, err)
	}
}

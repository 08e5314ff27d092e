package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/lab"
)

// A client with the cookie of a node that leaves stays there until the drain ends,
// or goes to another one, as the operator chooses. A request that is open ends well
// either way, and only then does the node hear that it may stop (issue 13, section 4).
func TestDrainSticky_NodeLeaves_ClientStaysOrMoves(t *testing.T) {
	t.Parallel()
	for policy, next := range map[string]string{"keep": "a", "move": "b"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			w := worldOf(t, lab.Service{Name: "shop", Extra: "    drain_sticky: " + policy + `
    drain_timeout: 1m
    sticky: {cookie: SRV}
`})
			w.must(w.lb.Start(w.ctx))
			nodes := map[string]*stickyNode{"a": newStickyNode(t, "a"), "b": newStickyNode(t, "b")}
			register := func(name string, meta map[string]string) {
				t.Helper()
				w.registerAt(nodes[name].Listener.Addr(), "shop", "shop-"+name, meta)
			}
			register("a", nil)
			w.must(w.lb.Routes(w.ctx, 20*time.Second, "shop", "shop-a"))
			jar, err := cookiejar.New(nil)
			w.must(err)
			client := &http.Client{Jar: jar, Timeout: 30 * time.Second}
			get := func(path string) string {
				req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.lb.URL("shop")+path, http.NoBody)
				if err != nil {
					return err.Error()
				}
				resp, err := client.Do(req)
				if err != nil {
					return err.Error()
				}
				defer func() { _ = resp.Body.Close() }()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK {
					return fmt.Sprint(resp.Status, err)
				}
				return string(body)
			}
			if got := get("/"); got != "a" {
				t.Fatalf("the only node: got %q", got)
			}
			register("b", nil)
			w.must(w.lb.Routes(w.ctx, 20*time.Second, "shop", "shop-a", "shop-b"))
			for range 10 {
				if got := get("/"); got != "a" {
					t.Fatalf("with the cookie of a: got %q", got)
				}
			}
			slow := make(chan string, 1)
			go func() { slow <- get("/slow") }()
			<-nodes["a"].begun

			register("a", map[string]string{"pointsman-drain": time.Now().UTC().Format(time.RFC3339)})
			w.must(lab.Until(w.ctx, 10*time.Second, "a is out of traffic", func() error {
				for _, i := range w.state().Instances("shop") {
					if i.ID == "shop-a" && i.Phase == "up" {
						return errors.New("it is up")
					}
				}
				return nil
			}))
			for range 10 {
				if got := get("/"); got != next {
					t.Errorf("with the cookie of a, which leaves: got %q, want %q", got, next)
				}
			}
			if err := w.lb.Drained(w.ctx, "shop", "shop-a", time.Millisecond); err == nil {
				t.Error("a is called drained, and a request is open there")
			}
			close(nodes["a"].release)
			if got := <-slow; got != "a" {
				t.Errorf("the request that was open: got %q, want it to end well", got)
			}
			w.must(w.lb.Drained(w.ctx, "shop", "shop-a", 10*time.Second))
			if got := get("/"); got != "b" {
				t.Errorf("after the drain: got %q, want b", got)
			}
		})
	}
}

// stickyNode says its name; to /slow only once it is released.
type stickyNode struct {
	*httptest.Server
	begun, release chan struct{}
}

func newStickyNode(t *testing.T, name string) *stickyNode {
	t.Helper()
	n := &stickyNode{begun: make(chan struct{}), release: make(chan struct{})}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			close(n.begun)
			select {
			case <-n.release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(n.Close)
	return n
}

// A client comes back to its node on each of two load balancers: by a cookie, which both
// make alike, or by its address, which they tell each other. It does so after a reload
// of one, and after the next deployment it keeps to one of the new nodes; no request
// fails (issue 16, section 6).
func TestSticky_TwoBalancers_SameNodeAcrossReloadAndDeployment(t *testing.T) {
	t.Parallel()
	for by, sticky := range map[string]string{"cookie": "{cookie: SRV}", "source": "{source: true}"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			var lbs []*lab.Balancer
			for n := range 2 {
				lb, err := w.NewBalancer(fmt.Sprint("lb", n), w.consul, lab.Service{Name: "shop", Extra: "    drain_sticky: move\n    sticky: " + sticky + "\n"})
				w.must(err)
				if by == "source" {
					w.must(lb.ExchangeTables())
				}
				lbs = append(lbs, lb)
			}
			for _, lb := range lbs {
				w.must(lb.Start(w.ctx))
			}
			w.lb = lbs[0]
			nodes := map[string]*stickyNode{}
			for _, name := range []string{"a", "b", "c", "d"} {
				nodes[name] = newStickyNode(t, name)
			}
			register := func(name string, meta map[string]string) {
				t.Helper()
				w.registerAt(nodes[name].Listener.Addr(), "shop", "shop-"+name, meta)
			}
			routes := func(ids ...string) {
				t.Helper()
				for _, lb := range lbs {
					w.must(lb.Routes(w.ctx, 20*time.Second, "shop", ids...))
				}
			}
			register("a", nil)
			register("b", nil)
			routes("shop-a", "shop-b")
			if by == "source" {
				for _, lb := range lbs {
					w.must(lab.Until(w.ctx, 30*time.Second, lb.Name+" is connected with its peer", func() error {
						return w.shows(lb, "show peers", "(remote,", "last_status=ESTA")
					}))
				}
			}
			clients := make([]*stickyClient, 12)
			for i := range clients {
				clients[i] = newStickyClient(t, fmt.Sprint("127.0.0.", 100+i))
			}
			// ask sends a request of a client, and gives the node that answers.
			ask := func(c *stickyClient, lb *lab.Balancer) string {
				t.Helper()
				node, err := c.get(w.ctx, lb.URL("shop"))
				if err != nil {
					t.Errorf("client %s, %s: %v", c.from, lb.Name, err)
				}
				return node
			}
			// known waits until a load balancer has a client in its table, without a request.
			known := func(lb *lab.Balancer, c *stickyClient) {
				t.Helper()
				if by == "source" {
					w.must(lab.Until(w.ctx, 10*time.Second, lb.Name+" knows "+c.from, func() error { return w.shows(lb, "show table shop", ":"+c.from+" ") }))
				}
			}
			// settle has each client find its node by the first load balancer, and asks the
			// other one for the same.
			settle := func(when string) {
				t.Helper()
				used := map[string]bool{}
				for _, c := range clients {
					c.node = ask(c, lbs[0])
					used[c.node] = true
				}
				for _, c := range clients {
					known(lbs[1], c) // it hears within a moment
					if got := ask(c, lbs[1]); got != c.node {
						t.Errorf("%s, client %s: %s by %s, and %s by %s", when, c.from, c.node, lbs[0].Name, got, lbs[1].Name)
					}
				}
				if len(used) != 2 {
					t.Errorf("%s: all clients are on one node, %v", when, used)
				}
			}
			keep := func(when string) {
				t.Helper()
				for _, c := range clients {
					for _, lb := range lbs {
						if got := ask(c, lb); got != c.node {
							t.Errorf("%s, client %s, %s: got node %s, want %s", when, c.from, lb.Name, got, c.node)
						}
					}
				}
			}
			settle("at the start")
			load := w.stickyLoad(lbs)

			var pids []int
			for _, lb := range lbs {
				before, err := lb.WorkerPID(w.ctx)
				w.must(err)
				services := lb.Services()
				services[0].Extra += "    backend_extra: [http-response set-header X-Reloaded yes]\n"
				w.must(lb.SetServices(services...))
				w.must(lb.Reread())
				w.must(lab.Until(w.ctx, 20*time.Second, lb.Name+" has reloaded", func() error {
					pid, err := lb.WorkerPID(w.ctx)
					if err == nil && pid == before {
						err = errors.New("the worker is the same")
					}
					return err
				}))
				w.must(lb.Ready(w.ctx, 15*time.Second))
				for _, c := range clients {
					known(lb, c) // the old worker passes the table on, within a moment
					// An open connection gets its next answer from the old worker, and HAProxy
					// 3.0 and older have emptied the table there (docs/guides/sticky-sessions.md).
					c.http.CloseIdleConnections()
				}
				keep("after a reload of " + lb.Name)
			}
			for _, lb := range lbs {
				pid, err := lb.WorkerPID(w.ctx)
				w.must(err)
				pids = append(pids, pid)
			}

			register("c", nil)
			register("d", nil)
			routes("shop-a", "shop-b", "shop-c", "shop-d")
			keep("with new nodes beside the old ones")
			for _, name := range []string{"a", "b"} {
				register(name, map[string]string{"pointsman-drain": time.Now().UTC().Format(time.RFC3339)})
			}
			for _, lb := range lbs {
				for _, id := range []string{"shop-a", "shop-b"} {
					w.must(lb.Drained(w.ctx, "shop", id, 20*time.Second))
				}
			}
			settle("after the deployment")
			keep("after the deployment, again")
			load()
			for i, lb := range lbs {
				pid, err := lb.WorkerPID(w.ctx)
				w.must(err)
				if pid != pids[i] {
					t.Errorf("%s: the deployment took a reload", lb.Name)
				}
			}
			if !t.Failed() {
				compat.HAProxy(t, "sticky sessions by "+by+" on two load balancers, across a reload and a deployment", "same node, no request lost")
			}
		})
	}
}

// shows reports what is missing in the answer to a runtime command.
func (w *world) shows(lb *lab.Balancer, command string, parts ...string) error {
	answer, err := lb.Runtime(w.ctx, command)
	for _, part := range parts {
		if err == nil && !strings.Contains(answer, part) {
			err = fmt.Errorf("no %q in %s", part, answer)
		}
	}
	return err
}

// stickyLoad sends requests by all load balancers, until the function that it gives is
// called: none may fail.
func (w *world) stickyLoad(lbs []*lab.Balancer) (stop func()) {
	var over atomic.Bool
	var sent atomic.Int64
	var running sync.WaitGroup
	urls := make([]string, len(lbs)) // the settings change under the load
	for i, lb := range lbs {
		urls[i] = lb.URL("shop")
	}
	for i := range 4 {
		c := newStickyClient(w.T, fmt.Sprint("127.0.0.", 50+i))
		running.Go(func() {
			for n := 0; !over.Load(); n++ {
				if _, err := c.get(w.ctx, urls[n%len(urls)]); err != nil && !over.Load() {
					w.Errorf("under load, client %s, %s: %v", c.from, lbs[n%len(lbs)].Name, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	end := func() { over.Store(true); running.Wait() }
	w.Cleanup(end)
	return func() { end(); w.Logf("%d requests", sent.Load()) }
}

// stickyClient is a browser at an address of its own.
type stickyClient struct {
	from string
	node string // that it is on
	http http.Client
}

func newStickyClient(t *testing.T, from string) *stickyClient {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &stickyClient{from: from, http: http.Client{Jar: jar, Transport: transport, Timeout: 30 * time.Second}}
}

func (c *stickyClient) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

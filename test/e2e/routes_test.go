package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// routedWorld is a load balancer with one frontend in front of several services,
// each with one node that has the service's name.
type routedWorld struct {
	*world
	port int
}

func newRoutedWorld(t *testing.T, services ...string) *routedWorld {
	t.Helper()
	w := &routedWorld{world: bareWorld(t)}
	var err error
	w.port, err = w.Port()
	w.must(err)
	var list []lab.Service
	for _, s := range services {
		list = append(list, lab.Service{Name: s, BackendOnly: true})
	}
	w.newBalancer(list...)
	return w
}

// setRoutes writes the frontend's routes, lines such as {host: a.test, service: a}.
func (w *routedWorld) setRoutes(routes ...string) {
	w.Helper()
	yaml := fmt.Sprintf("frontends:\n  - name: web\n    bind: \"127.0.0.1:%d\"\n    routes:\n", w.port)
	for _, r := range routes {
		yaml += "      - " + r + "\n"
	}
	w.must(w.lb.SetExtra(yaml))
}

// ask sends one request and gives the status and the instance that has answered, or
// else the body.
func (w *routedWorld) ask(ctx context.Context, client *http.Client, host, path string) (status int, instance string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", w.port, path), http.NoBody)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	body, err := io.ReadAll(resp.Body)
	var says struct{ Instance string }
	if json.Unmarshal(body, &says) != nil {
		says.Instance = string(body)
	}
	return resp.StatusCode, says.Instance, err
}

// until waits until a host and path are answered by an instance; "" is the 404 of
// the load balancer.
func (w *routedWorld) until(host, path, instance string) {
	w.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	w.must(lab.Until(w.ctx, 15*time.Second, fmt.Sprintf("%s%s is answered by %q", host, path, instance), func() error {
		status, got, err := w.ask(w.ctx, client, host, path)
		switch {
		case err != nil:
			return err
		case instance == "" && status == http.StatusNotFound && strings.Contains(got, "load balancer lb0"):
			return nil
		case status == http.StatusOK && got == instance:
			return nil
		}
		return fmt.Errorf("%d from %q", status, got)
	}))
}

// routedLoad is requests under way for hosts and paths, each with the instances that
// may answer it.
type routedLoad struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	requests int
	wrong    map[string]int
}

func (w *routedWorld) hammer(want map[[2]string][]string) *routedLoad {
	uncut := context.WithoutCancel(w.ctx)
	ctx, cancel := context.WithCancel(w.ctx)
	h := &routedLoad{cancel: cancel, wrong: map[string]int{}}
	for target, instances := range want {
		h.wg.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				status, got, err := w.ask(uncut, client, target[0], target[1]) // one that has begun is not cut
				h.mu.Lock()
				h.requests++
				if err != nil || status != http.StatusOK || !slices.Contains(instances, got) {
					h.wrong[fmt.Sprintf("%v: %d %.60s %v", target, status, got, err)]++
				}
				h.mu.Unlock()
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return h
}

func (h *routedLoad) stop(t *testing.T) {
	t.Helper()
	h.cancel()
	h.wg.Wait()
	if h.requests == 0 || len(h.wrong) > 0 {
		t.Errorf("%d requests, wrong: %v", h.requests, h.wrong)
	}
	t.Logf("%d requests", h.requests)
}

// Routes of the settings are added, changed and removed while requests are under
// way: over the runtime socket, without a reload.
func TestRoutes_ChangedBySIGHUPUnderLoad_NoReloadAndNoFailedRequest(t *testing.T) {
	t.Parallel()
	w := newRoutedWorld(t, "shop", "basket", "admin")
	first := []string{
		"{host: shop.example.com, service: shop}", "{host: shop.example.com, path: /cart, service: basket, strip_prefix: true}", "{host: \"*.example.org\", service: admin}",
	}
	w.setRoutes(first...)
	w.must(w.lb.Start(w.ctx))
	for _, s := range []string{"shop", "basket", "admin"} {
		n, err := w.StartNode(w.ctx, w.consul, s, s+"0", "1.0")
		w.must(err)
		w.nodes = append(w.nodes, n)
	}
	w.until("shop.example.com", "/", "shop0")
	w.until("shop.example.com", "/cart", "basket0")
	w.until("a.example.org", "/", "admin0")
	w.until("other.test", "/", "")
	pid := w.workerPID()
	load := w.hammer(map[[2]string][]string{
		{"shop.example.com", "/"}:     {"shop0"},
		{"shop.example.com", "/cart"}: {"basket0", "shop0"}, // it is moved below
		{"a.b.example.org", "/"}:      {"admin0"},
	})
	change := func(routes ...string) {
		w.setRoutes(routes...)
		w.must(w.lb.Reread())
	}
	change(append(slices.Clone(first), "{host: new.test, path: /v1, service: basket, strip_prefix: true}")...) // one key
	w.until("new.test", "/v1/", "basket0")
	w.until("new.test", "/v10", "")
	change(first...)
	w.until("new.test", "/v1/", "")
	var many []string
	for i := range 300 { // several, with one that moves
		many = append(many, fmt.Sprintf("{host: h%d.test, service: shop}", i))
	}
	change(append([]string{first[0], "{host: shop.example.com, path: /cart, service: shop, strip_prefix: true}", first[2]}, many...)...)
	w.until("h299.test", "/", "shop0")
	w.until("shop.example.com", "/cart", "shop0")
	change(first...)
	w.until("h299.test", "/", "")
	w.until("shop.example.com", "/cart", "basket0")

	// What another program changes is put back.
	_, err := w.lb.Runtime(w.ctx, "add map "+w.lb.Config()+".web.map stranger.test/ shop")
	w.must(err)
	w.until("stranger.test", "/", "")
	load.stop(t)
	if got := w.workerPID(); got != pid || w.state().Reloads.Succeeded != 0 {
		t.Errorf("worker %d became %d, %d reloads", pid, got, w.state().Reloads.Succeeded)
	}

	// A HAProxy that starts again has the routes of now, and a sidecar that starts
	// again changes nothing.
	change(append(slices.Clone(first), "{host: last.test, service: admin}")...)
	w.until("last.test", "/", "admin0")
	w.must(lab.Until(w.ctx, 10*time.Second, "the map file has the route", func() error {
		content, err := os.ReadFile(w.lb.Config() + ".web.map")
		if err == nil && !strings.Contains(string(content), "last.test/ admin\n") {
			err = fmt.Errorf("it has %q", content)
		}
		return err
	}))
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(w.lb.HAProxy.Stop(10 * time.Second))
	w.must(w.lb.StartHAProxy(w.ctx))
	w.until("last.test", "/", "admin0")
	pid = w.workerPID()
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.until("last.test", "/", "admin0")
	updates, err := w.lb.Metric(w.ctx, `pointsman_haproxy_commands_total{kind="update_map",result="ok"}`)
	w.must(err)
	if got := w.workerPID(); got != pid || updates != 0 {
		t.Errorf("after a restart worker %d became %d, with %v updates of maps", pid, got, updates)
	}
}

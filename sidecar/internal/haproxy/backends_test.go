package haproxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// A backend that is added as HAProxy runs gets no request before it is published, has the
// settings of its defaults section, the name in the check's Host with them, and is deleted
// once its servers are. Before 3.4 there are none: HAProxy says so, and the sidecar knows.
func TestBackend_AddedPublishedAndDeleted_AsHAProxyRuns(t *testing.T) {
	t.Parallel()
	checked := make(chan string, 1)
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			select {
			case checked <- r.Host: // the first one is enough
			default:
			}
		}
		_, _ = fmt.Fprint(w, "node") // the client tells
	}))
	defer node.Close()
	routes := filepath.Join(t.TempDir(), "routes.map")
	if err := os.WriteFile(routes, []byte("shop.test shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	front := haproxytest.FreeAddr(t).String()
	p := haproxytest.StartWith(t, marked(testMark), fmt.Sprintf(`frontend f
  mode http
  bind %s
  use_backend %%[req.hdr(host),map(%s,none)]
  default_backend none
backend none
  mode http
  http-request return status 404 content-type text/plain string none
defaults pointsman.profile.web
  mode http
  timeout connect 1s
  timeout server 5s
  timeout check 500ms
  option httpchk
  http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host %%[be_name]
backend old from pointsman.profile.web
  server old-1 %s check inter 50ms
`, front, routes, node.Listener.Addr()))
	c, err := New(Options{Runtime: p.Runtime(), Master: p.Master()})
	if err != nil {
		t.Fatal(err)
	}
	look := func() (plan.Observed, plan.Backend, bool) {
		t.Helper()
		o, err := c.Observe(t.Context(), []string{"shop"})
		if err != nil {
			t.Fatal(err)
		}
		b, exists := o.Backends["shop"]
		return o, b, exists
	}
	do := func(wantErr string, steps ...plan.Step) {
		t.Helper()
		for i, err := range c.Apply(t.Context(), steps) {
			if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
				t.Fatalf("%s: got %v, want %q", steps[i].Kind, err, wantErr)
			}
		}
	}
	served := func(want string) {
		t.Helper()
		if got, err := ask(t.Context(), "http://"+front, "shop.test", "/"); err != nil || got != want {
			t.Fatalf("a request got %q, %v, want %q", got, err, want)
		}
	}
	of := func(kind plan.Kind) plan.Step {
		return plan.Step{Kind: kind, Backend: "shop", Defaults: "pointsman.profile.web", Mode: "http"}
	}
	add := plan.Step{Kind: plan.Add, Backend: "shop", Server: "shop-1", Addr: addr(node.Listener.Addr().String()), Weight: 1, Options: "check inter 50ms rise 1", Prove: true}

	checkedAs := func(want string) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			select {
			case host := <-checked:
				if host == want {
					return
				}
				if host != "old" { // one more of before
					t.Fatalf("a check had Host %q, want %q", host, want)
				}
			case <-deadline:
				t.Fatalf("no check had Host %q", want)
			}
		}
	}
	checkedAs("old")
	p.Command("set server old/old-1 state maint")
	o, _, exists := look()
	if exists {
		t.Fatal("the backend is there before it is added")
	}
	if !o.Caps.Backends {
		do("Unknown command", of(plan.AddBackend))
		served("none")
		return
	}
	do("Cannot find default proxy", plan.Step{Kind: plan.AddBackend, Backend: "shop", Defaults: "other", Mode: "http"})
	do("", of(plan.AddBackend))
	do("name is already used", of(plan.AddBackend))
	if _, b, exists := look(); !exists || !b.Unpublished || len(b.Servers) != 0 {
		t.Fatalf("added: got %+v, %v, want one that is unpublished and empty", b, exists)
	}
	do("", add)
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, b, _ := look()
		if len(b.Servers) == 1 && b.Servers[0].Up {
			if !b.Unpublished {
				t.Error("it is published")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("its server is not up: %+v", b.Servers)
		}
	}
	checkedAs("shop")
	served("none")
	do("", of(plan.PublishBackend))
	if _, b, _ := look(); b.Unpublished {
		t.Error("published: it is unpublished")
	}
	served("node")
	do("must be unpublished", of(plan.DeleteBackend))
	do("", of(plan.UnpublishBackend))
	served("none")
	do("without server", of(plan.DeleteBackend))
	do("", plan.Step{Kind: plan.SetMaint, Backend: "shop", Server: "shop-1"})
	do("", plan.Step{Kind: plan.Delete, Backend: "shop", Server: "shop-1"})
	do("", of(plan.DeleteBackend))
	if _, _, exists := look(); exists {
		t.Error("deleted: it is there")
	}
	// Many backends are read by two commands, with the same result.
	steps := make([]plan.Step, 0, wholeFrom)
	names := make([]string, 0, wholeFrom)
	for i := range wholeFrom {
		s := of(plan.AddBackend)
		s.Backend = fmt.Sprintf("shop%d", i)
		steps, names = append(steps, s), append(names, s.Backend)
	}
	do("", steps...)
	one := add
	one.Backend = "shop0"
	do("", one, plan.Step{Kind: plan.PublishBackend, Backend: "shop1"})
	all, err := c.Observe(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if b, exists := all.Backends[name]; !exists || b.Unpublished != (name != "shop1") {
			t.Errorf("%s: got %+v, %v", name, b, exists)
		}
	}
}

// What HAProxy would answer again is a refusal; what passes is an error like others.
func TestBackend_StepNotTaken_RefusedUnlessItPasses(t *testing.T) {
	t.Parallel()
	p := haproxytest.StartWith(t, marked(testMark), `defaults good
  mode http
defaults connects
  mode tcp
  tcp-request connection accept
frontend front
  mode http
  use_backend named if { path /named }
backend named from good
backend table from good
  stick-table type ip size 1k
backend served from good
  server one 127.0.0.1:9
`)
	c, err := New(Options{Runtime: p.Runtime(), Master: p.Master()})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := c.Observe(t.Context(), nil); err != nil || !o.Caps.Backends {
		t.Logf("no backends at runtime: %v", err)
		return
	}
	add := func(name, defaults string) plan.Step {
		return plan.Step{Kind: plan.AddBackend, Backend: name, Defaults: defaults, Mode: "http"}
	}
	of := func(kind plan.Kind, name string) plan.Step { return plan.Step{Kind: kind, Backend: name} }
	for _, c2 := range []struct {
		name      string
		before    []plan.Step
		step      plan.Step
		isRefused bool
	}{
		{"defaults that it has not", nil, add("a", "other"), true},
		{"defaults for other uses", nil, add("a", "connects"), true},
		{"the name of a frontend", nil, add("front", "good"), true},
		{"no such backend", nil, of(plan.PublishBackend, "a"), true},
		{"a backend that the file names", []plan.Step{of(plan.UnpublishBackend, "named")}, of(plan.DeleteBackend, "named"), true},
		{"a backend with a table", []plan.Step{of(plan.UnpublishBackend, "table")}, of(plan.DeleteBackend, "table"), true},
		{"a backend with servers", []plan.Step{of(plan.UnpublishBackend, "served")}, of(plan.DeleteBackend, "served"), false},
		{"a backend that is published", []plan.Step{of(plan.PublishBackend, "served")}, of(plan.DeleteBackend, "served"), false},
	} {
		for i, err := range c.Apply(t.Context(), c2.before) {
			if err != nil {
				t.Errorf("%s: %s: %v", c2.name, c2.before[i].Kind, err)
			}
		}
		err := c.Apply(t.Context(), []plan.Step{c2.step})[0]
		if err == nil || errors.Is(err, plan.ErrBackendRefused) != c2.isRefused {
			t.Errorf("%s: got %v, want a refusal: %v", c2.name, err, c2.isRefused)
		}
		t.Logf("%s: %v", c2.name, err)
	}
}

// compression of a defaults section has no effect in a backend that HAProxy adds as it runs,
// and has one in a backend of the file: see render. Should that change, profiles with it need
// no reload any more.
func TestBackend_AddedAtRuntime_DoesNotCompress(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t), haproxytest.FreeAddr(t)
	p := haproxytest.Start(t, fmt.Sprintf(`defaults web
  mode http
  timeout connect 1s
  timeout server 5s
  compression algo gzip
  compression type text/
defaults plain
  mode http
  timeout client 5s
frontend front from plain
  bind %s
  use_backend %%[path,field(2,/)]
frontend node from plain
  bind %s
  http-request return status 200 content-type text/plain string "hello, hello, hello"
backend file from web
  server node %[2]s
`, front, node))
	if reply := p.Command("add backend added from web mode http"); !strings.Contains(reply, "New backend registered.") {
		return // before 3.4
	}
	p.Command("add server added/node " + node.String())
	p.Command("set server added/node state ready")
	p.Command("publish backend added")
	for backend, want := range map[string]string{"file": "gzip", "added": ""} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front.String()+"/"+backend, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		reply, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
		if got := reply.Header.Get("Content-Encoding"); reply.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s: got %s with encoding %q, want %q", backend, reply.Status, got, want)
		}
	}
}

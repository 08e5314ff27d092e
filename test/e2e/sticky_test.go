package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// A client with the cookie of a node that leaves stays there until the drain ends,
// or goes to another one, as the operator chooses. A request that is open ends well
// either way, and the node is told that it may stop only then (issue 13, section 4).
func TestDrainSticky_NodeLeaves_ClientStaysOrMoves(t *testing.T) {
	for policy, next := range map[string]string{"keep": "a", "move": "b"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			var err error
			w.lb, err = w.NewBalancer("lb0", w.consul, lab.Service{Name: "shop", Extra: "    drain_sticky: " + policy + `
    drain_timeout: 1m
    backend_extra: |
      cookie SRV insert indirect nocache dynamic
      dynamic-cookie-key some-words
`})
			w.must(err)
			w.must(w.lb.Start(w.ctx))
			nodes := map[string]*stickyNode{"a": newStickyNode(t, "a"), "b": newStickyNode(t, "b")}
			register := func(name string, meta map[string]string) {
				t.Helper()
				at := netip.MustParseAddrPort(nodes[name].Listener.Addr().String())
				w.must(w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
					ID: "shop-" + name, Name: "shop", Address: at.Addr().String(), Port: int(at.Port()), Meta: meta,
				}))
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

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/certtest"
)

// newTestClient is closed with the test.
func newTestClient(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// polled is a server that answers by the world.
func polled(t *testing.T, w *world, change ...func(*Options)) Target {
	o := options()
	o.LoadBalancer, o.Watch = "lb0", w.watch
	o.State = func() any {
		return map[string]any{"load_balancer": "lb0", "services": []any{
			map[string]any{"name": "web", "index": 3},
			map[string]any{"name": "api", "index": 7, "instances": []any{map[string]any{"id": "a/b", "node": "n", "phase": "up", "version": "1.1", "weight": 1}}},
		}}
	}
	for _, c := range change {
		c(&o)
	}
	return Target{LoadBalancer: "lb0", URL: start(t, o)}
}

func TestTheClientGetsWhatTheServerSays(t *testing.T) {
	w := newWorld()
	w.live, w.index, w.drain = 2, 7, Drain{Phase: "draining", Sessions: 3}
	to, c := polled(t, w), newTestClient(t, ClientOptions{})
	live, err := c.Live(t.Context(), to, "api", "1.1", 3, 0)
	if want := (Live{false, 2, 3}); live != want || err != nil {
		t.Errorf("Live: got %+v, %v, want %+v", live, err, want)
	}
	time.AfterFunc(50*time.Millisecond, func() { w.becomes(func() { w.live = 3; w.drain = Drain{Drained: true, Phase: "out"} }) })
	live, err = c.Live(t.Context(), to, "api", "1.1", 3, 10*time.Second)
	if want := (Live{true, 3, 3}); live != want || err != nil {
		t.Errorf("Live that is waited for: got %+v, %v, want %+v", live, err, want)
	}
	for _, instance := range []string{"a/b", "..", "a b?c#d%2F", "ü"} {
		drain, err := c.Drain(t.Context(), to, "api", instance, 7, 10*time.Second)
		if want := (Drain{Drained: true, Phase: "out"}); drain != want || err != nil {
			t.Errorf("Drain of %q: got %+v, %v, want %+v", instance, drain, err, want)
		}
	}
	view, err := c.View(t.Context(), to, "api")
	if err != nil || view.Index != 7 || len(view.Instances) != 1 || view.Instances[0].ID != "a/b" || view.Instances[0].Phase != "up" {
		t.Errorf("View: got %+v, %v", view, err)
	}
	if _, err := c.View(t.Context(), to, "nothing"); !errors.Is(err, ErrNotRouted) {
		t.Errorf("View of a service that is not routed: got %v", err)
	}
	w.becomes(func() { w.unrouted = true })
	if _, err := c.Live(t.Context(), to, "api", "1.1", 3, 0); !errors.Is(err, ErrNotRouted) {
		t.Errorf("Live of a service that is not routed: got %v", err)
	}
}

func TestTheClientBelievesNothingElse(t *testing.T) {
	type asking func(context.Context, *Client, Target) error
	live := func(ctx context.Context, c *Client, to Target) error {
		_, err := c.Live(ctx, to, "api", "1.1", 3, 0)
		return err
	}
	drain := func(ctx context.Context, c *Client, to Target) error {
		_, err := c.Drain(ctx, to, "api", "api-1", 7, 0)
		return err
	}
	view := func(ctx context.Context, c *Client, to Target) error {
		_, err := c.View(ctx, to, "api")
		return err
	}
	release := func(ctx context.Context, c *Client, to Target) error {
		_, err := c.Release(ctx, to, "api")
		return err
	}
	for _, c := range []struct {
		name, body string
		code       int
		ask        asking
		want       string
	}{
		{"live of another load balancer", `{"load_balancer":"lb\u001b1","service":"api","version":"1.1","live":true,"count":3,"want":3}`, 200, live, `the load balancer "lb\x1b1" answers there`},
		{"live of another service", `{"load_balancer":"lb0","service":"web","version":"1.1","live":true,"count":3,"want":3}`, 200, live, `about the service "web"`},
		{"live of another version", `{"load_balancer":"lb0","service":"api","version":"1.0","live":true,"count":3,"want":3}`, 200, live, "inconsistent answer"},
		{"live with too few", `{"load_balancer":"lb0","service":"api","version":"1.1","live":true,"count":2,"want":3}`, 200, live, "inconsistent answer"},
		{"live of another count", `{"load_balancer":"lb0","service":"api","version":"1.1","live":true,"count":3,"want":1}`, 200, live, "inconsistent answer"},
		{"live that is nothing", `{}`, 200, live, `the load balancer "" answers there`},
		{"live that is null", `null`, 200, live, `the load balancer "" answers there`},
		{"live that is no JSON", `<html>`, 200, live, "invalid answer"},
		{"live that goes on", `{"load_balancer":"lb0"}{}`, 200, live, "invalid answer"},
		{"live that never ends", strings.Repeat(" ", maxAnswer+1), 200, live, "larger than 65536 bytes"},
		{"drained of another instance", `{"load_balancer":"lb0","service":"api","instance":"api-2","drained":true,"sessions":0,"index":7}`, 200, drain, `about the instance "api-2"`},
		{"drained with sessions", `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"sessions":1,"index":7}`, 200, drain, "inconsistent answer"},
		{"drained by old knowledge", `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"sessions":0,"index":6}`, 200, drain, "inconsistent answer"},
		{"a state of another", `{"load_balancer":"lb1","services":[{"name":"api"}]}`, 200, view, `the load balancer "lb1"`},
		{"released by another", `{"load_balancer":"lb1","service":"api","released":[]}`, 200, release, `the load balancer "lb1"`},
		{"another service released", `{"load_balancer":"lb0","service":"web","released":["w"]}`, 200, release, `about the service "web"`},
		{"no token", `{"error":"x"}`, 401, live, "bearer token rejected"},
		{"no certificate", `{"error":"a client certificate is needed"}`, 403, live, `status 403: "a client certificate is needed"`},
		{"a 404 of anything else", `not found`, 404, drain, "status 404"},
		{"a 404 of another load balancer", `{"load_balancer":"lb1","error":"service not routed by this load balancer"}`, 404, drain, "status 404"},
		{"a redirect", ``, 302, live, "status 302"},
		{"an error", `{"error":"` + strings.Repeat("x", 1000) + `"}`, 500, live, "status 500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.code)
				fmt.Fprint(w, c.body)
			}))
			defer server.Close()
			client := newTestClient(t, ClientOptions{})
			err := c.ask(t.Context(), client, Target{LoadBalancer: "lb0", URL: server.URL})
			if err == nil || errors.Is(err, ErrNotRouted) || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 300 {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if asked != 1 {
				t.Errorf("asked %d times, want once", asked)
			}
			client.Close()
		})
	}
}

// Nothing between the two is to take an ID for a way up, or for two parts.
func TestTheClientEscapesAnID(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.RequestURI }))
	defer server.Close()
	c := newTestClient(t, ClientOptions{})
	for instance, want := range map[string]string{
		"..":    "/api/v1/drain/api/%2E%2E?index=7&wait=0s",
		"a/../": "/api/v1/drain/api/a%2F..%2F?index=7&wait=0s",
		"a?b#c": "/api/v1/drain/api/a%3Fb%23c?index=7&wait=0s",
	} {
		if _, err := c.Drain(t.Context(), Target{LoadBalancer: "lb0", URL: server.URL}, "api", instance, 7, 0); err == nil {
			t.Errorf("%q: an empty answer gave no error", instance)
		}
		if got := <-asked; got != want {
			t.Errorf("%q: asked for %s, want %s", instance, got, want)
		}
	}
}

func TestTheClientGivesUp(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	c := newTestClient(t, ClientOptions{})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too late"))
	defer cancel()
	if _, err := c.Live(ctx, Target{LoadBalancer: "lb0", URL: server.URL}, "api", "1.1", 3, time.Minute); err == nil || err.Error() != "too late" {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestTheClientShowsItsTokenToWhomItIsMeantFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.live = 3
	to := polled(t, w, func(o *Options) { o.Access.Token = "secret" })
	for _, o := range []ClientOptions{{TokenFile: file}, {Token: "secret"}, {Token: "other", TokenFile: file}} {
		if _, err := newTestClient(t, o).Live(t.Context(), to, "api", "1.1", 3, 0); err != nil {
			t.Errorf("with the token by %+v: %v", o, err)
		}
	}
	if _, err := newTestClient(t, ClientOptions{}).Live(t.Context(), to, "api", "1.1", 3, 0); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without it: got %v, want 401", err)
	}
}

func TestTheClientAsksByTLSOnlyWhereItIsSet(t *testing.T) {
	a := certtest.New(t)
	a.Sign("server")
	a.Sign("client")
	w := newWorld()
	w.live = 3
	secure := polled(t, w, func(o *Options) {
		o.Access = Access{CertFile: a.Path("server.pem"), KeyFile: a.Path("server-key.pem"), ClientCAFile: a.Path("ca.pem")}
	})
	secure.URL = strings.Replace(secure.URL, "http://", "https://", 1)
	who := ClientOptions{CAFile: a.Path("ca.pem"), CertFile: a.Path("client.pem"), KeyFile: a.Path("client-key.pem")}
	for _, c := range []struct {
		name string
		who  ClientOptions
		to   Target
		want string // "" for success
	}{
		{"with certificate and authority", who, secure, ""},
		{"without a certificate", ClientOptions{CAFile: a.Path("ca.pem")}, secure, "403"},
		{"without the authority", ClientOptions{}, secure, "authority"},
		{"one that speaks no TLS", who, polled(t, w), "no TLS, but"},
	} {
		_, err := newTestClient(t, c.who).Live(t.Context(), c.to, "api", "1.1", 3, 0)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	for _, o := range []ClientOptions{{CertFile: a.Path("client.pem")}, {TokenFile: "/nowhere"}, {CAFile: a.Path("client-key.pem")}} {
		if _, err := NewClient(o); err == nil {
			t.Errorf("NewClient(%+v): got no error", o)
		}
	}
}

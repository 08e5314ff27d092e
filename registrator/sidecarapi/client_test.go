package sidecarapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

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
		{"drained of another instance", `{"load_balancer":"lb0","service":"api","instance":"api-2","drained":true,"sessions":0,"index":7}`, 200, drain, `of instance "api-2"`},
		{"drained with sessions", `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"sessions":1,"index":7}`, 200, drain, "inconsistent answer"},
		{"drained by old knowledge", `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"sessions":0,"index":6}`, 200, drain, "inconsistent answer"},
		{"a state of another", `{"load_balancer":"lb1","services":[{"name":"api"}]}`, 200, view, `the load balancer "lb1"`},
		{"a state without the service, of a sidecar that starts", `{"load_balancer":"lb0","services":[],"ready":false,"not_ready":"the sidecar is starting"}`, 200, view, `the sidecar is not ready: "the sidecar is starting"`},
		{"released by another", `{"load_balancer":"lb1","service":"api","released":[]}`, 200, release, `the load balancer "lb1"`},
		{"another service released", `{"load_balancer":"lb0","service":"web","released":["w"]}`, 200, release, `about the service "web"`},
		{"no token", `{"error":"x"}`, 401, live, `status 401: "x"`},
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
			client := New(Options{})
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
	c := New(Options{})
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
	c := New(Options{})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too late"))
	defer cancel()
	if _, err := c.Live(ctx, Target{LoadBalancer: "lb0", URL: server.URL}, "api", "1.1", 3, time.Minute); err == nil || err.Error() != "too late" {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestCounters_HostileAnswer_Refused(t *testing.T) {
	c := New(Options{})
	for body, want := range map[string]string{
		`{"load_balancer":"lb9","service":"api","instances":[]}`:                                            `the load balancer "lb9" answers there`,
		`{"load_balancer":"lb0","service":"mail","instances":[]}`:                                           `the answer is about the service "mail"`,
		`{"load_balancer":"lb0","service":"api","instances":null}`:                                          "invalid answer: instances: want a list",
		`{"load_balancer":"lb0","service":"api"}`:                                                           "invalid answer: instances: want a list",
		`{"load_balancer":"lb0","service":"api","instances":[{"requests":-1}]}`:                             "invalid answer: instances: json: cannot unmarshal",
		`{"load_balancer":"lb0","service":"api","instances":[` + strings.Repeat(`{},`, MaxCounted) + `{}]}`: "invalid answer: more than 20000 instances",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }))
		_, err := c.Counters(t.Context(), Target{LoadBalancer: "lb0", URL: server.URL}, "api")
		server.Close()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s", body, err, want)
		}
	}
}

// An address in Consul may be anyone's. Who has a host's name has a certificate of the
// system's authorities for it, too.
func TestToken_AddressFromConsul_IsSentOnlyToWhatProvesWhoItIs(t *testing.T) {
	secure := httptest.NewUnstartedServer(nil)
	plain := httptest.NewUnstartedServer(nil)
	var shown string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = r.Header.Get("Authorization")
		fmt.Fprint(w, `{"load_balancer":"lb0","service":"api","live":true,"count":1,"want":1}`)
	})
	secure.Config.Handler, plain.Config.Handler = handler, handler
	secure.StartTLS()
	defer secure.Close()
	plain.Start()
	defer plain.Close()
	pool := secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // a test
	for name, c := range map[string]struct {
		url        string
		tls        *tls.Config
		registered bool
		want       string
	}{
		"the caller's own":                        {url: plain.URL, want: "Bearer secret"},
		"from Consul":                             {url: plain.URL, registered: true},
		"from Consul, with an authority":          {url: plain.URL, tls: &tls.Config{RootCAs: pool}, registered: true},
		"from Consul, by TLS":                     {url: secure.URL, tls: &tls.Config{InsecureSkipVerify: true}, registered: true},
		"from Consul, by TLS, with an authority":  {url: secure.URL, tls: &tls.Config{RootCAs: pool}, registered: true, want: "Bearer secret"},
		"from Consul, by TLS, with a server name": {url: secure.URL, tls: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"}, registered: true, want: "Bearer secret"},
	} {
		shown = "not asked"
		client := New(Options{Token: func() (string, error) { return "secret", nil }, TLS: c.tls})
		_, err := client.Live(t.Context(), Target{LoadBalancer: "lb0", URL: c.url, Registered: c.registered}, "api", "", 1, 0)
		if err != nil || shown != c.want {
			t.Errorf("%s: sent %q, %v, want %q", name, shown, err, c.want)
		}
	}
}

package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRelease_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	var asked []string
	o := options()
	o.Release = func(_ context.Context, service string) ([]string, bool, error) {
		asked = append(asked, service)
		switch service {
		case "api":
			return []string{"api-1"}, true, nil
		case "busy":
			return nil, true, errors.New("no time")
		}
		return nil, false, nil
	}
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	type change = func(*http.Request)
	header := func(key, value string) change { return func(r *http.Request) { r.Header.Set(key, value) } }
	tcp := func(r *http.Request) { *r = *r.WithContext(t.Context()) }
	for _, c := range []struct {
		name, method, path string
		change             change
		code               int
		body               string
		asks               bool
	}{
		{"over the socket", "POST", "api/release", nil, 200, `{"load_balancer":"lb\u003c0\u003e","service":"api","released":["api-1"]}`, true},
		{"over loopback", "POST", "api/release", tcp, 403, "", false},
		{"a page of another site", "POST", "api/release", header("Sec-Fetch-Site", "cross-site"), 403, "", false},
		{"a service that is not routed", "POST", "web/release", nil, 404, "", true},
		{"an agent that has no time", "POST", "busy/release", nil, 503, `{"error":"no time"}`, true},
		{"no service", "POST", "/release", nil, 400, "", false},
		{"two services", "POST", "api/web/release", nil, 400, "", false},
		{"something else", "POST", "api/hold", nil, 400, "", false},
		{"a method that reads", "GET", "api/release", nil, 405, `{"error":"only POST is allowed"}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked = nil
			ctx := context.WithValue(t.Context(), fromSocket{}, true)
			r := httptest.NewRequestWithContext(ctx, c.method, "http://127.0.0.1:9600/api/v1/guard/"+c.path, http.NoBody)
			r.RemoteAddr = "127.0.0.1:4000"
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			dispatch(paths).ServeHTTP(w, r)
			if got := strings.TrimSpace(w.Body.String()); w.Code != c.code || c.body != "" && got != c.body {
				t.Errorf("got %d %s, want %d %s", w.Code, got, c.code, c.body)
			}
			if (len(asked) > 0) != c.asks {
				t.Errorf("asked for %q, want that it asks: %v", asked, c.asks)
			}
		})
	}
}

func TestRelease_WithToken_IsAllowedFromElsewhereByTLS(t *testing.T) {
	o := options()
	o.Access = Access{Token: "secret"}
	o.Release = func(context.Context, string) ([]string, bool, error) { return []string{}, true, nil }
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		url, to, token string
		code           int
	}{
		{"https://lb0:9600", "10.0.0.1", "secret", http.StatusOK},
		{"https://lb0:9600", "10.0.0.1", "other", http.StatusUnauthorized},
		{"http://lb0:9600", "127.0.0.1", "secret", http.StatusOK}, // by a tunnel
		{"http://lb0:9600", "::1", "secret", http.StatusOK},
		{"http://lb0:9600", "10.0.0.1", "secret", http.StatusForbidden},
	} {
		ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(c.to), Port: 9600})
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, c.url+"/api/v1/guard/api/release", http.NoBody)
		r.Header.Set("Authorization", "Bearer "+c.token)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("%+v: got %d %s", c, w.Code, w.Body)
		}
	}
}

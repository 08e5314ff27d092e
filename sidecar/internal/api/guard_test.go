package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRelease_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	var a asking
	o := options()
	o.Release = func(_ context.Context, service string) ([]string, bool, error) {
		a.asked = append(a.asked, service)
		return []string{"api-1"}, service == "api", a.fails
	}
	api := []string{"api"}
	a.check(t, o, "/api/v1/guard/", []actionCase{
		{name: "over the socket", method: "POST", path: "api/release", code: 200, body: `{"load_balancer":"lb\u003c0\u003e","service":"api","released":["api-1"]}`, asks: api},
		{name: "over loopback", method: "POST", path: "api/release", change: overTCP, code: 403},
		{name: "a page of another site", method: "POST", path: "api/release", change: withHeader("Sec-Fetch-Site", "cross-site"), code: 403},
		{name: "a service that is not routed", method: "POST", path: "web/release", code: 404, asks: []string{"web"}},
		{name: "an agent that has no time", method: "POST", path: "api/release", fails: errors.New("no time"), code: 503, body: `{"error":"no time"}`, asks: api},
		{name: "no service", method: "POST", path: "/release", code: 400},
		{name: "two services", method: "POST", path: "api/web/release", code: 400},
		{name: "something else", method: "POST", path: "api/hold", code: 400},
		{name: "a method that reads", method: "GET", path: "api/release", code: 405, body: `{"error":"only POST is allowed"}`},
	})
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

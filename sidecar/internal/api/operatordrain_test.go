package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOperatorDrain_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	var asked []string
	o := options()
	o.SetDrain = func(_ context.Context, service, server string, _ bool) (string, bool, error) {
		asked = append(asked, service, server)
		switch server {
		case "slot-1":
			return "api-1", true, nil
		case "busy":
			return "", true, errors.New("disk full")
		}
		return "", false, errors.New("the service has no such server")
	}
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path string
		tcp                bool
		code               int
		body               string
		asks               bool
	}{
		{"drain", "POST", "api/slot-1/drain", false, 200, `{"load_balancer":"lb\u003c0\u003e","service":"api","server":"api-1","drain":true}`, true},
		{"ready", "POST", "api/slot-1/ready", false, 200, `{"load_balancer":"lb\u003c0\u003e","service":"api","server":"api-1","drain":false}`, true},
		{"over loopback", "POST", "api/slot-1/drain", true, 403, "", false},
		{"no such server", "POST", "api/none/drain", false, 404, `{"error":"the service has no such server"}`, true},
		{"not saved", "POST", "api/busy/drain", false, 503, `{"error":"disk full"}`, true},
		{"another action", "POST", "api/slot-1/maint", false, 400, "", false},
		{"no server", "POST", "api//drain", false, 400, "", false},
		{"a method that reads", "GET", "api/slot-1/drain", false, 405, "", false},
	} {
		asked = nil
		ctx := context.WithValue(t.Context(), fromSocket{}, true)
		if c.tcp {
			ctx = t.Context()
		}
		w := httptest.NewRecorder()
		dispatch(paths).ServeHTTP(w, httptest.NewRequestWithContext(ctx, c.method, "http://127.0.0.1:9600/api/v1/server/"+c.path, http.NoBody))
		if got := strings.TrimSpace(w.Body.String()); w.Code != c.code || c.body != "" && got != c.body {
			t.Errorf("%s: got %d %s, want %d %s", c.name, w.Code, got, c.code, c.body)
		}
		if (len(asked) > 0) != c.asks {
			t.Errorf("%s: asked for %q, want that it asks: %v", c.name, asked, c.asks)
		}
	}
}

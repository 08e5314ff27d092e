package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMaintenance_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	var asked []bool
	var fails error
	absent := errors.New("no health answer")
	o := options()
	o.SetMaintenance = func(_ context.Context, on bool) (bool, error) {
		asked = append(asked, on)
		return !errors.Is(fails, absent), fails
	}
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, word string
		tcp                bool
		fails              error
		code               int
		body               string
		asks               bool
	}{
		{"on", "POST", "on", false, nil, 200, `{"load_balancer":"lb\u003c0\u003e","maintenance":true}`, true},
		{"off", "POST", "off", false, nil, 200, `{"load_balancer":"lb\u003c0\u003e","maintenance":false}`, true},
		{"over loopback", "POST", "on", true, nil, 403, "", false},
		{"not in the file", "POST", "on", false, errors.New("not updated"), 503, `{"error":"not updated"}`, true},
		{"no health answer", "POST", "on", false, absent, 404, `{"error":"no health answer"}`, true},
		{"something else", "POST", "maybe", false, nil, 400, "", false},
		{"a method that reads", "GET", "on", false, nil, 405, "", false},
	} {
		asked, fails = nil, c.fails
		ctx := context.WithValue(t.Context(), fromSocket{}, true)
		if c.tcp {
			ctx = t.Context()
		}
		w := httptest.NewRecorder()
		dispatch(paths).ServeHTTP(w, httptest.NewRequestWithContext(ctx, c.method, "http://127.0.0.1:9600/api/v1/maintenance/"+c.word, http.NoBody))
		if got := strings.TrimSpace(w.Body.String()); w.Code != c.code || c.body != "" && got != c.body {
			t.Errorf("%s: got %d %s, want %d %s", c.name, w.Code, got, c.code, c.body)
		}
		if (len(asked) > 0) != c.asks || len(asked) > 0 && asked[0] != (c.word == "on") {
			t.Errorf("%s: asked for %v", c.name, asked)
		}
	}
	if w := httptest.NewRecorder(); true {
		o.SetMaintenance = nil
		none, err := routes(o)
		if err != nil {
			t.Fatal(err)
		}
		dispatch(none).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/api/v1/maintenance/on", http.NoBody))
		if w.Code != http.StatusNotFound {
			t.Errorf("without a health answer: got %d, want 404", w.Code)
		}
	}
}

package api

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// actionCase is a request for an action, over the Unix socket.
type actionCase struct {
	name, method, path string // the path below what all cases have
	change             func(*http.Request)
	fails              error // of the agent
	code               int
	body               string   // "" is any
	asks               []string // what the agent is asked
}

// asking is what the agent is asked in one case, and its error.
type asking struct {
	asked []string
	fails error
}

// check sends the requests.
func (a *asking) check(t *testing.T, o Options, below string, cases []actionCase) {
	t.Helper()
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		a.asked, a.fails = nil, c.fails
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), fromSocket{}, true), c.method, "http://127.0.0.1:9600"+below+c.path, http.NoBody)
		r.RemoteAddr = "127.0.0.1:4000"
		if c.change != nil {
			c.change(r)
		}
		w := httptest.NewRecorder()
		dispatch(paths).ServeHTTP(w, r)
		if got := strings.TrimSpace(w.Body.String()); w.Code != c.code || c.body != "" && got != c.body {
			t.Errorf("%s: got %d %s, want %d %s", c.name, w.Code, got, c.code, c.body)
		}
		if !slices.Equal(a.asked, c.asks) {
			t.Errorf("%s: the agent was asked %q, want %q", c.name, a.asked, c.asks)
		}
	}
}

// overTCP makes a request one over loopback.
func overTCP(r *http.Request) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9600}
	*r = *r.WithContext(context.WithValue(context.Background(), http.LocalAddrContextKey, at))
}

func withHeader(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(key, value) }
}

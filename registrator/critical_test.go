package registrator_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pointsman/pointsman/registrator"
)

// A check that starts critical must pass once before there is traffic, and a
// second registration must not take that back.
func TestACheckThatStartsCriticalPassesByItselfAndKeepsItsState(t *testing.T) {
	var ready atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	c := newConsul(t).start()
	stop := c.record()
	register := func() *registrator.Registration {
		r, err := registrator.New(registrator.Config{
			Consul: c.config(), Service: "api", ID: "api-1", Port: 4000,
			Checks: []registrator.Check{{HTTP: server.URL, StartCritical: true}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	status := func(want string) {
		eventually(t, want, func() bool {
			got := c.entries("api")
			return len(got) == 1 && got[0].Checks.AggregatedStatus() == want
		})
	}
	first := register()
	status("critical")
	ready.Store(true)
	status("passing")
	first.Close() // its program was replaced
	register()
	status("passing")
	seen := slices.DeleteFunc(stop(), func(s string) bool { return s == "absent" })
	if got := strings.Join(seen, ", "); got != "critical, passing" {
		t.Errorf("Consul's watchers have seen %s, want critical, passing", got)
	}
}

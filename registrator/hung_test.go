package registrator_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
)

// looks counts how often the agent has told of the service's checks.
type looks struct{ n atomic.Int64 }

func (l *looks) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasPrefix(r.URL.Path, "/v1/agent/health/") {
		l.n.Add(1)
	}
	return resp, err
}

// again waits for a look that began after it was called.
func (l *looks) again(t *testing.T) {
	t.Helper()
	before := l.n.Load()
	eventually(t, "further look", func() bool { return l.n.Load() > before+1 })
}

// Consul forgets a service that was critical for a minute, as it is made to
// here at once. The watchdog brings it back, but not into traffic while its
// program hangs; a check that was well stays so.
func TestAProgramThatHangsComesBackCriticalAfterConsulHasDroppedIt(t *testing.T) {
	c := newConsul(t).start()
	var hangs atomic.Bool
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if hangs.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(p.Close)
	config, looks := configFor(t, c, p), new(looks)
	config.Consul.HttpClient = &http.Client{Transport: looks}
	registered(t, config)
	statuses := func() (http, tcp string) {
		for _, e := range c.entries("api") {
			for _, check := range e.Checks {
				switch check.CheckID {
				case "api-1:http":
					http = check.Status
				case "api-1:tcp":
					tcp = check.Status
				}
			}
		}
		return http, tcp
	}
	eventually(t, "passing instance", func() bool { http, tcp := statuses(); return http == api.HealthPassing && tcp == api.HealthPassing })
	hangs.Store(true)
	eventually(t, "critical instance", func() bool { http, _ := statuses(); return http == api.HealthCritical })
	for range 3 { // as often as Consul may do it
		looks.again(t)
		seen := c.record()
		if err := c.Client.Agent().ServiceDeregister("api-1"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "new registration", func() bool {
			known, _, err := c.Client.Agent().Service("api-1", nil)
			return err == nil && known != nil
		})
		// The check has run again when the agent has its output.
		eventually(t, "run of the check", func() bool {
			checks, err := c.Client.Agent().Checks()
			return err == nil && checks["api-1:http"] != nil && checks["api-1:http"].Output != ""
		})
		eventually(t, "check that was well", func() bool { _, tcp := statuses(); return tcp == api.HealthPassing })
		if got := seen(); slices.Contains(got, api.HealthPassing) {
			t.Fatalf("a watcher saw %q, want it never passing", got)
		}
	}
	hangs.Store(false)
	eventually(t, "passing instance", func() bool { http, _ := statuses(); return http == api.HealthPassing })

	// A healthy program that the agent forgot comes back passing, at once.
	looks.again(t)
	seen := c.record()
	if err := c.Client.Agent().ServiceDeregister("api-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new registration", func() bool {
		known, _, err := c.Client.Agent().Service("api-1", nil)
		return err == nil && known != nil
	})
	eventually(t, "passing instance", func() bool { http, tcp := statuses(); return http == api.HealthPassing && tcp == api.HealthPassing })
	if got := seen(); slices.Contains(got, api.HealthCritical) {
		t.Errorf("a watcher saw %q, want it never critical", got)
	}
}

// Only the check that was critical begins so, by any registration: the mark of a
// program that has to leave is a registration, too.
func TestOnlyWhatWasCriticalIsRegisteredSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{checks: `{"CheckID":"api-1:http","Status":"critical"},{"CheckID":"api-1:tcp","Status":"warning"}`}
		config := fakeConfig(f)
		config.Checks = []registrator.Check{{HTTP: "http://127.0.0.1:4000/"}, {TCP: "127.0.0.1:4000"}}
		r := registered(t, config)
		want := func(when string, critical int) {
			t.Helper()
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := strings.Count(f.known, `"Status":"critical"`); got != critical || strings.Count(f.known, `"Status":`) != 2 {
				t.Errorf("%s: got %d critical checks, want %d, in %s", when, got, critical, f.known)
			}
		}
		want("at first", 0)
		time.Sleep(registrator.DefaultWatchdog / 2)
		f.forget()
		time.Sleep(registrator.DefaultWatchdog)
		want("forgotten", 1)
		f.forget()
		if err := r.Leave(t.Context(), func(context.Context) error { want("leaving", 1); return nil }); err != nil {
			t.Error(err)
		}
	})
}

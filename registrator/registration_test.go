package registrator_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

// program is something to register: an HTTP server with a health page.
func program(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return s
}

func configFor(t *testing.T, c *consul, p *httptest.Server) registrator.Config {
	t.Helper()
	return registrator.Config{
		Consul: c.config(), Service: "api", ID: "api-1", Address: "127.0.0.1", Port: portOf(t, p.URL), Version: "1.1",
		Checks:    []registrator.Check{{HTTP: p.URL + "/healthz"}, {TCP: p.Listener.Addr().String()}},
		Watchdog:  50 * time.Millisecond,
		LeaveWait: 300 * time.Millisecond,
	}
}

func newRegistration(t *testing.T, config registrator.Config) *registrator.Registration {
	t.Helper()
	r, err := registrator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func registered(t *testing.T, config registrator.Config) *registrator.Registration {
	t.Helper()
	r := newRegistration(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := r.Register(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWatchersSeeNoCriticalFromRegisteringToLeaving(t *testing.T) {
	c := newConsul(t).start()
	p := program(t)
	seen := c.record()
	r := registered(t, configFor(t, c, p))
	eventually(t, "run of the check", func() bool {
		// The agent's own word: it holds a change of output alone back for minutes.
		checks, err := c.Client.Agent().Checks()
		return err == nil && checks["api-1:http"] != nil && checks["api-1:http"].Output != ""
	})
	if err := r.Leave(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end", func() bool { return len(c.entries("api")) == 0 })
	want := []string{"absent", "passing", "passing leaving", "absent"}
	if got := seen(); !slices.Equal(got, want) {
		t.Errorf("a watcher saw %q, want %q", got, want)
	}
}

func TestRegistrationArrivesAsConfigured(t *testing.T) {
	c := newConsul(t).start()
	config := configFor(t, c, program(t))
	config.Backup, config.MaxConn, config.Tags = true, 50, []string{"blue"}
	config.Meta = map[string]string{"team": "rails"}
	config.Weights = api.AgentWeights{Passing: 100, Warning: 10}
	registered(t, config)
	eventually(t, "instance", func() bool { return len(c.entries("api")) == 1 })
	got := c.entries("api")[0].Service
	for key, want := range map[string]string{"version": "1.1", "backup": "true", "maxconn": "50", "team": "rails"} {
		if got.Meta[key] != want {
			t.Errorf("meta %q = %q, want %q", key, got.Meta[key], want)
		}
	}
	if got.ID != "api-1" || got.Address != "127.0.0.1" || got.Port != config.Port || got.Weights != config.Weights || !slices.Equal(got.Tags, config.Tags) {
		t.Errorf("service = %+v, want it as configured", got)
	}
}

func TestLeaveStopsBetweenMarkAndDeregistration(t *testing.T) {
	c := newConsul(t).start()
	r := registered(t, configFor(t, c, program(t)))
	eventually(t, "instance", func() bool { return len(c.entries("api")) == 1 })
	began := time.Now()
	err := r.Leave(t.Context(), func(context.Context) error {
		if waited := time.Since(began); waited < 300*time.Millisecond {
			t.Errorf("stopped after %v, want not before the leave wait of 300ms", waited)
		}
		got := c.entries("api")
		if len(got) != 1 || got[0].Checks.AggregatedStatus() != api.HealthPassing {
			t.Fatalf("instances at the stop = %v, want one, passing", got)
		}
		since, err := time.Parse(time.RFC3339, got[0].Service.Meta["pointsman-drain"])
		if err != nil || since.Before(began.Add(-time.Second)) || since.After(time.Now()) {
			t.Errorf("leaving since %q, want a time about %v", got[0].Service.Meta["pointsman-drain"], began)
		}
		if got := got[0].Service.Meta["version"]; got != "1.1" {
			t.Errorf("version while leaving = %q, want it kept", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "end", func() bool { return len(c.entries("api")) == 0 })
}

func TestLeaveKeepsTheStateOfACriticalCheck(t *testing.T) {
	c := newConsul(t).start()
	var mu sync.Mutex
	status := http.StatusOK
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(p.Close)
	r := registered(t, configFor(t, c, p))
	mu.Lock()
	status = http.StatusServiceUnavailable
	mu.Unlock()
	critical := func() bool {
		got := c.entries("api")
		return len(got) == 1 && got[0].Checks.AggregatedStatus() == api.HealthCritical
	}
	eventually(t, "critical check", critical)
	seen := c.record()
	if err := r.Leave(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end", func() bool { return len(c.entries("api")) == 0 })
	if got, want := seen(), []string{"critical", "critical leaving", "absent"}; !slices.Equal(got, want) {
		t.Errorf("a watcher saw %q, want %q", got, want)
	}
}

func TestWatchdogRegistersAgainAfterAgentForgot(t *testing.T) {
	c := newConsul(t).start()
	registered(t, configFor(t, c, program(t)))
	c.kill()
	c.start()
	eventually(t, "new registration", func() bool {
		got := c.entries("api")
		return len(got) == 1 && got[0].Checks.AggregatedStatus() == api.HealthPassing && got[0].Service.Meta["version"] == "1.1"
	})
}

func TestNothingRegistersAgainOnceLeavingHasBegun(t *testing.T) {
	c := newConsul(t).start()
	r := registered(t, configFor(t, c, program(t)))
	err := r.Leave(t.Context(), func(context.Context) error {
		if err := c.Client.Agent().ServiceDeregister("api-1"); err != nil {
			t.Errorf("make the agent forget: %v", err)
		}
		// Four periods of the watchdog, by the clock that it uses.
		for range 4 {
			time.Sleep(50 * time.Millisecond)
			if known, _, _ := c.Client.Agent().Service("api-1", nil); known != nil {
				t.Error("it was registered again while it left")
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("Leave = %v, want no error: that the agent has forgotten is as good as deregistered", err)
	}
	if known, _, _ := c.Client.Agent().Service("api-1", nil); known != nil {
		t.Error("it is registered after Leave")
	}
}

func TestTTLCheckStaysAliveUntilTheEndOfLeaving(t *testing.T) {
	c := newConsul(t).start()
	config := configFor(t, c, program(t))
	config.Checks = []registrator.Check{{TTL: time.Second}}
	config.LeaveWait = 2 * time.Second
	seen := c.record()
	if err := registered(t, config).Leave(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end", func() bool { return len(c.entries("api")) == 0 })
	if got := seen(); slices.Contains(got, "critical leaving") || slices.Contains(got, "critical") {
		t.Errorf("a watcher saw %q, want never critical", got)
	}
}

func TestRegisterWaitsForAgent(t *testing.T) {
	c := newConsul(t) // not started yet
	r := newRegistration(t, configFor(t, c, program(t)))
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	go func() { done <- r.Register(ctx) }()
	c.start()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually(t, "instance", func() bool { return len(c.entries("api")) == 1 })
}

func TestCloseKeepsTheRegistration(t *testing.T) {
	c := newConsul(t).start()
	r := registered(t, configFor(t, c, program(t)))
	r.Close()
	r.Close() // a second one does nothing
	if known, _, err := c.Client.Agent().Service("api-1", nil); err != nil || known == nil {
		t.Errorf("after Close the agent has %v, %v, want the service", known, err)
	}
	if err := r.Leave(t.Context(), nil); err != nil {
		t.Errorf("Leave after Close = %v, want it to work", err)
	}
	if err := r.Register(t.Context()); !errors.Is(err, registrator.ErrLeft) {
		t.Errorf("Register after Leave = %v, want %v", err, registrator.ErrLeft)
	}
}

// TestLeave_NoSessions_StopsAtOnce: the index that is asked
// with is one of Consul's servers that has the mark, whatever time the agent
// takes to pass it on.
func TestLeave_NoSessions_StopsAtOnce(t *testing.T) {
	c := newConsul(t).start()
	s := newSidecar("lb0")
	s.drained = true
	var index atomic.Uint64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseUint(r.FormValue("index"), 10, 64)
		index.Store(n)
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	said := contract.Sidecar{Balancer: "lb0", Services: []string{"api"}}
	if err := c.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "sc", Name: contract.SidecarService, Address: "127.0.0.1", Port: portOf(t, server.URL), Meta: said.Format(),
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sidecar", func() bool { return len(c.entries(contract.SidecarService)) == 1 })

	config := configFor(t, c, program(t))
	config.LeaveWait = 20 * time.Second
	var got registrator.Drain
	config.OnDrain = func(l registrator.Drain) { got = l }
	r := registered(t, config)
	began := time.Now()
	err := r.Leave(t.Context(), func(context.Context) error {
		took := time.Since(began)
		t.Logf("the stop came after %v", took)
		if took > config.LeaveWait/2 {
			t.Errorf("the stop came after %v, want it at once", took)
		}
		entries, meta, err := c.Client.Health().Service("api", "", false, nil)
		if err != nil || len(entries) != 1 || entries[0].Service.Meta["pointsman-drain"] == "" {
			t.Errorf("at the stop Consul has %v, %v, want the mark", entries, err)
		} else if n := index.Load(); n == 0 || n > meta.LastIndex {
			t.Errorf("asked with index %d, want one up to %d", n, meta.LastIndex)
		} else if got := entries[0].Service.ModifyIndex; n < got {
			t.Errorf("asked with index %d, want no less than the mark's, %d", n, got)
		}
		return nil
	})
	if err != nil || got.Outcome != registrator.OutcomeDrained {
		t.Errorf("Leave = %v with %+v, want it drained", err, got)
	}
}

func TestSetChecks_OnceRegistered_Refused(t *testing.T) {
	c := newConsul(t).start()
	p := program(t)
	config := configFor(t, c, p)
	checks := config.Checks
	config.Checks = []registrator.Check{{TCP: "127.0.0.1:1"}}
	r := newRegistration(t, config)
	if err := r.SetChecks([]registrator.Check{{TCP: "h"}}); err == nil {
		t.Error("a check without a port is taken")
	}
	if err := r.SetChecks(checks); err != nil {
		t.Fatal(err)
	}
	if err := r.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Client.Agent().Checks(); err != nil || got["api-1:http"] == nil || got["api-1:tcp"] == nil {
		t.Errorf("checks: got %v, %v, want those that were set", got, err)
	}
	if err := r.SetChecks(checks); err == nil {
		t.Error("checks are replaced once it is registered")
	}
}

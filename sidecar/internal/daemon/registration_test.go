package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/proctest"
)

// registering is a balancer that runs, beside a real Consul and an HAProxy of
// which only the health answer is there.
type registering struct {
	t       *testing.T
	consul  *consultest.Process
	client  *api.Client
	running atomic.Bool // HAProxy answers the sidecar
	healthy atomic.Bool // and Consul
	address atomic.Value
	log     proctest.Output

	cfg      config.Config
	balancer *registration
	stop     func()
}

func newRegistering(t *testing.T) *registering {
	t.Helper()
	r := &registering{t: t, consul: consultest.StartProcess(t)}
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !r.healthy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(health.Close)
	var err error
	if r.client, err = api.NewClient(&api.Config{Address: r.consul.Address(), Scheme: "http"}); err != nil {
		t.Fatal(err)
	}
	r.address.Store("10.0.0.1")
	r.cfg = config.Config{
		Name:    "lb0",
		Consul:  config.Consul{Address: r.consul.Address(), Wait: time.Minute},
		HAProxy: config.HAProxy{Health: config.Endpoint{Bind: strings.TrimPrefix(health.URL, "http://"), URI: "/"}},
		Registration: config.Registration{
			Service: "lb", Port: 80, Tags: []string{"edge"},
			Check: config.BalancerCheck{Interval: time.Second, Timeout: time.Second}, DeregisterAfter: time.Minute,
		},
	}
	return r
}

// start runs the balancer until stop, or the test's end.
func (r *registering) start() {
	r.t.Helper()
	var err error
	r.balancer, err = newRegistration(r.cfg, balancer(r.running.Load), hclog.New(&hclog.LoggerOptions{Output: &r.log}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.balancer.reach = func(context.Context, string, string) (string, error) {
		if address, _ := r.address.Load().(string); address != "" {
			return address, nil
		}
		return "", errors.New("no such host")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.balancer.run(ctx); err != nil {
			r.t.Errorf("run: %v", err)
		}
	}()
	var once sync.Once
	r.stop = func() { once.Do(func() { cancel(); <-done }) }
	r.t.Cleanup(r.stop)
}

// shown is the registration as Consul's clients see it.
func (r *registering) shown(service string) *api.ServiceEntry {
	r.t.Helper()
	got, _, err := r.client.Health().Service(service, "", false, nil)
	if err != nil || len(got) == 0 {
		return nil
	}
	if len(got) > 1 {
		r.t.Errorf("%d registrations of %s, want one", len(got), service)
	}
	return got[0]
}

func (r *registering) status(service string) string {
	if e := r.shown(service); e != nil {
		return e.Checks.AggregatedStatus()
	}
	return "absent"
}

func (r *registering) eventually(what string, holds func() bool) {
	r.t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("15 s have gone by without %s; the log:\n%s", what, r.log.String())
		}
	}
}

func (r *registering) becomes(service, status string) {
	r.t.Helper()
	r.eventually(service+" "+status, func() bool { return r.status(service) == status })
}

func TestTheBalancerIsRegisteredOnceHAProxyAnswersAndAsHAProxySays(t *testing.T) {
	t.Parallel()
	r := newRegistering(t)
	r.start()
	r.running.Store(true)
	r.eventually("a registration", func() bool { return r.shown("lb") != nil })
	if got := r.status("lb"); got != "critical" {
		t.Errorf("before its first health answer: got %s, want critical: it may be in maintenance", got)
	}
	r.healthy.Store(true)
	r.becomes("lb", "passing")

	e := r.shown("lb")
	got := []any{e.Service.ID, e.Service.Address, e.Service.Port, e.Service.Tags, e.Service.Meta[contract.KeyBalancer]}
	if diff := cmp.Diff(got, []any{"pointsman-lb-lb0", "10.0.0.1", 80, []string{"edge"}, "lb0"}); diff != "" {
		t.Errorf("registration (-got +want):\n%s", diff)
	}
	r.healthy.Store(false) // maintenance
	r.becomes("lb", "critical")
}

// HAProxy outlives the sidecar.
func TestTheRegistrationStaysWhenTheSidecarStopsAndKeepsItsStateWhenItIsBack(t *testing.T) {
	t.Parallel()
	r := newRegistering(t)
	r.running.Store(true)
	r.healthy.Store(true)
	r.start()
	r.becomes("lb", "passing")
	r.stop()
	if got := r.status("lb"); got != "passing" {
		t.Errorf("after the stop: got %s, want passing", got)
	}
	said := len(r.log.String())
	r.start()
	for !strings.Contains(r.log.String()[said:], "registered") {
		if got := r.status("lb"); got != "passing" {
			t.Fatalf("while it registers again: got %s, want passing", got)
		}
	}
	if got := r.status("lb"); got != "passing" {
		t.Errorf("registered again: got %s, want passing", got)
	}
}

func TestAConsulThatComesLateOrForgetsGetsTheRegistration(t *testing.T) {
	t.Parallel()
	r := newRegistering(t)
	r.consul.Kill()
	r.running.Store(true)
	r.healthy.Store(true)
	r.start()
	r.eventually("a word that Consul is away", func() bool { return strings.Contains(r.log.String(), "registration failed, retrying") })
	r.consul.Restart()
	r.becomes("lb", "passing")
	r.consul.Restart() // with no memory
	r.becomes("lb", "passing")
}

// agentFake is Consul's agent without a network, so that time may be the test's.
type agentFake struct {
	mu            sync.Mutex
	known         bool
	registrations int
}

func (f *agentFake) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := http.StatusOK
	switch {
	case strings.HasSuffix(r.URL.Path, "/register"):
		f.known = true
		f.registrations++
	case !f.known:
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("{}")), Header: http.Header{}, Request: r}, nil
}

func (f *agentFake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = false
}

func (f *agentFake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.registrations
}

func TestAnHAProxyThatIsAwayIsNotRegisteredUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Bool
		var f agentFake
		b := &registration{
			consul: &api.Config{Address: "127.0.0.1:1", HttpClient: &http.Client{Transport: &f}},
			is:     balancer(running.Load), log: hclog.NewNullLogger(), changed: make(chan config.Config, 1),
			reach: func(context.Context, string, string) (string, error) { return "10.0.0.1", nil },
			cfg: config.Config{Name: "lb0", HAProxy: config.HAProxy{Health: config.Endpoint{Bind: ":8405", URI: "/"}}, Registration: config.Registration{
				Service: "lb", Port: 80, Check: config.BalancerCheck{Interval: time.Second, Timeout: time.Second}, DeregisterAfter: time.Minute,
			}},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.run(ctx) }()
		want := func(when string, registrations int) {
			t.Helper()
			time.Sleep(time.Minute)
			if got := f.count(); got != registrations {
				t.Errorf("%s: got %d registrations, want %d", when, got, registrations)
			}
		}
		want("before it answers", 0)
		running.Store(true)
		want("once it answers", 1)
		f.forget()
		want("after Consul forgot it", 2) // the registrator's watchdog
		running.Store(false)
		time.Sleep(time.Second)
		f.forget() // deregister_after
		want("while it is away", 2)
		running.Store(true)
		want("once it is back", 3)

		off := b.cfg
		off.Registration.Service = ""
		b.reconfigure(off)
		time.Sleep(time.Second)
		f.forget() // an operator took it out
		want("once it is not to be registered", 3)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTheRegistrationFollowsTheAddressAndTheSettings(t *testing.T) {
	t.Parallel()
	r := newRegistering(t)
	r.running.Store(true)
	r.healthy.Store(true)
	r.start()
	r.becomes("lb", "passing")

	r.address.Store("10.0.0.2")
	r.eventually("the new address", func() bool { e := r.shown("lb"); return e != nil && e.Service.Address == "10.0.0.2" })
	if got := r.status("lb"); got != "passing" {
		t.Errorf("at its new address: got %s, want its state kept", got)
	}
	r.address.Store("") // it cannot be found out
	r.eventually("a word about it", func() bool { return strings.Contains(r.log.String(), "no such host") })
	if got := r.shown("lb").Service.Address; got != "10.0.0.2" {
		t.Errorf("address: got %q, want what is known", got)
	}

	r.cfg.Registration.Service, r.cfg.Registration.Port = "edge", 443
	r.balancer.reconfigure(r.cfg)
	r.becomes("edge", "passing")
	if got := r.shown("edge").Service; got.Port != 443 || got.Address != "10.0.0.2" {
		t.Errorf("after other settings: got %s:%d, want 10.0.0.2:443", got.Address, got.Port)
	}
	r.becomes("lb", "absent")
}

func TestTheCheckAsksWhereHAProxyBinds(t *testing.T) {
	for _, c := range []struct{ bind, uri, address, url, want string }{
		{"*:8405", "/", "10.0.0.1", "", "http://10.0.0.1:8405/"},
		{":8405 defer-accept", "/health", "10.0.0.1", "", "http://10.0.0.1:8405/health"},
		{"[::]:8405", "/", "fd00::1", "", "http://[fd00::1]:8405/"},
		{"*:8405", "/", "", "", "http://127.0.0.1:8405/"},
		{"127.0.0.1:8405", "/", "10.0.0.1", "", "http://127.0.0.1:8405/"},
		{"10.0.0.9:8405", "/", "10.0.0.1", "", "http://10.0.0.9:8405/"},
		{"*:8405", "/", "10.0.0.1", "https://lb0/ok", "https://lb0/ok"},
	} {
		got := checkURL(config.Registration{Check: config.BalancerCheck{URL: c.url}}, config.Endpoint{Bind: c.bind, URI: c.uri}, c.address)
		if got != c.want {
			t.Errorf("bind %s, address %q: got %s, want %s", c.bind, c.address, got, c.want)
		}
	}
}

func TestAddressOf_SettingOrWayToConsul(t *testing.T) {
	for _, c := range []struct{ setting, consul, want string }{
		{"10.0.0.1", "127.0.0.1:8500", "10.0.0.1"},
		{"fd00::1", "127.0.0.1:8500", "fd00::1"},
		{"localhost", "127.0.0.1:8500", "127.0.0.1"},
		{"", "127.0.0.1:8500", ""},
		{"", "localhost:8500", ""},
		{"", "http://[::1]:8500/proxy", ""},
		{"", "unix:///run/consul.sock", ""},
	} {
		if got, err := addressOf(t.Context(), c.setting, c.consul, ""); err != nil || got != c.want {
			t.Errorf("setting %q, Consul %q: got %q, %v, want %q", c.setting, c.consul, got, err, c.want)
		}
	}
	if got, err := addressOf(t.Context(), "", "192.0.2.1:8500", ""); err == nil {
		if addr, parsed := netip.ParseAddr(got); parsed != nil || addr.IsUnspecified() || addr.IsLoopback() {
			t.Errorf("a Consul elsewhere: got %q, want an address of ours", got)
		}
	}
	if got, err := addressOf(t.Context(), "no.such.host.invalid", "127.0.0.1:8500", ""); err == nil {
		t.Errorf("a name that is none: got %q, want an error", got)
	}
}

func TestAnAddressThatIsStillAmongThoseOfANameStays(t *testing.T) {
	found := []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::ffff:10.0.0.1")}
	for last, want := range map[string]string{"": "10.0.0.1", "10.0.0.2": "10.0.0.2", "fd00::1": "fd00::1", "10.0.0.3": "10.0.0.1"} {
		if got := choose(found, last); got != want {
			t.Errorf("last %q: got %s, want %s", last, got, want)
		}
	}
}

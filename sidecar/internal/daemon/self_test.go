package daemon

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/proctest"
)

func TestTheSidecarIsRegisteredWhileItAnswersAndLeavesARecord(t *testing.T) {
	t.Parallel()
	consul := consultest.StartProcess(t)
	client, err := api.NewClient(&api.Config{Address: consul.Address(), Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(answers.Close)
	cfg := config.Config{
		Name: "lb0", Consul: config.Consul{Address: consul.Address(), Wait: time.Minute},
		API:      config.API{Address: "127.0.0.1:0", Service: "pointsman-sidecar"},
		Services: []config.Service{{Name: "web"}, {Name: "api"}},
	}
	var log proctest.Output
	r, err := newRegistration(cfg, self(answers.Listener.Addr), hclog.New(&hclog.LoggerOptions{Output: &log}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx) }()
	shown := func() *api.ServiceEntry {
		found, _, err := client.Health().Service("pointsman-sidecar", "", true, nil)
		if err != nil || len(found) == 0 {
			return nil
		}
		return found[0]
	}
	w := &registering{t: t}
	w.eventually("a passing registration", func() bool { return shown() != nil })
	e := shown()
	if got, want := []any{e.Service.ID, e.Service.Address, e.Service.Port}, []any{"pointsman-sidecar-lb0", "127.0.0.1", portOf(answers.Listener.Addr().String())}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	says, err := contract.ParseSidecar(e.Service.Meta)
	if want := (contract.Sidecar{Balancer: "lb0", Services: []string{"api", "web"}}); err != nil || !reflect.DeepEqual(says, want) {
		t.Errorf("it says %+v, %v, want %+v", says, err, want)
	}

	cfg.Services = cfg.Services[:1]
	r.reconfigure(cfg)
	w.eventually("the routes of the new settings", func() bool {
		e := shown()
		return e != nil && e.Service.Meta[contract.KeyRoutes] == "web"
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	e = shown()
	if e == nil {
		t.Fatal("after its end there is no record of it")
	}
	says, err = contract.ParseSidecar(e.Service.Meta)
	if err != nil || says.Balancer != "lb0" || says.Stopped.IsZero() || !says.MayRoute("web") || e.Service.Port != portOf(answers.Listener.Addr().String()) {
		t.Errorf("the record says %+v, %v, at port %d", says, err, e.Service.Port)
	}
	checks, err := client.Agent().Checks()
	if err != nil || checks["pointsman-sidecar-lb0:stopped"] == nil || checks["pointsman-sidecar-lb0:sidecar"] != nil {
		t.Errorf("its checks are %v, %v", checks, err)
	}

	// The sidecar after it takes its place.
	again, err := newRegistration(cfg, self(answers.Listener.Addr), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- again.run(ctx) }()
	w.eventually("the new sidecar", func() bool {
		e := shown()
		return e != nil && e.Service.Meta[contract.KeyStopped] == "" && len(e.Checks) == 2 // its own, and the node's
	})
	off := cfg
	off.API.Service = ""
	again.reconfigure(off)
	w.eventually("its end, as the settings want it", func() bool { return shown() == nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if e := shown(); e != nil {
		t.Errorf("it leaves a record, though it was not registered: %+v", e.Service)
	}
}

// recorded is a record in a real Consul, of a sidecar that has stopped beside
// what answers at the address.
func recorded(t *testing.T, cfg config.Config, lasts time.Duration) (health func() string) {
	t.Helper()
	consul := consultest.StartProcess(t)
	client, err := api.NewClient(&api.Config{Address: consul.Address(), Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.Consul = "lb0", config.Consul{Address: consul.Address(), Wait: time.Minute}
	cfg.API = config.API{Address: "127.0.0.1:9600", Service: "pointsman-sidecar"}
	bound := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9600}
	r, err := newRegistration(cfg, self(func() net.Addr { return bound }), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	r.leave(t.Context(), stoppedEntry(cfg, selfEntry(cfg, "127.0.0.1", bound), time.Now(), lasts))
	return func() string {
		found, _, err := client.Health().Service("pointsman-sidecar", "", false, nil)
		if err != nil || len(found) == 0 {
			return "none"
		}
		return found[0].Checks.AggregatedStatus()
	}
}

func TestRecordOfStoppedSidecar_HAProxyStops_EndsWithItsHealthCheck(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]func(address string) config.Config{
		"health answer": func(a string) config.Config {
			return config.Config{HAProxy: config.HAProxy{Health: config.Endpoint{Bind: a, URI: "/"}}}
		},
		"a service's address": func(a string) config.Config {
			return config.Config{Services: []config.Service{{Name: "ws", Bind: []string{"/run/ws.sock"}}, {Name: "api", Bind: []string{a + " tfo"}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			haproxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			t.Cleanup(haproxy.Close)
			health := recorded(t, settings(haproxy.Listener.Addr().String()), recordFor)
			for range 5 { // its check has asked more than once
				if got := health(); got != api.HealthPassing {
					t.Fatalf("while HAProxy answers: got %s, want passing", got)
				}
				time.Sleep(selfCheck / 2)
			}
			haproxy.Close()
			(&registering{t: t}).eventually("its end", func() bool { return health() == api.HealthCritical })
		})
	}
}

func TestRecordOfStoppedSidecar_HAProxyRuns_EndsAfterItsTime(t *testing.T) {
	t.Parallel()
	haproxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(haproxy.Close)
	cfg := config.Config{HAProxy: config.HAProxy{Health: config.Endpoint{Bind: haproxy.Listener.Addr().String(), URI: "/"}}}
	health := recorded(t, cfg, 3*time.Second)
	if got := health(); got != api.HealthPassing {
		t.Fatalf("at first: got %s, want passing", got)
	}
	(&registering{t: t}).eventually("its end", func() bool { return health() == api.HealthCritical })
}

func TestRecordOfStoppedSidecar_HAProxyElsewhere_IsAskedThere(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv4zero, Port: 9600}
	for _, c := range []struct {
		bind, address, own, want string
	}{
		{"*:8405", "lb0", "10.0.0.2", "http://lb0:8405/"},
		{"*:8405", "", "10.0.0.2", "http://10.0.0.2:8405/"},
		{"*:8405", "", "", "http://127.0.0.1:8405/"},
		{"/run/health.sock", "", "", ""},
		{"", "", "", ""},
	} {
		cfg := config.Config{Name: "lb0", HAProxy: config.HAProxy{Health: config.Endpoint{Bind: c.bind, URI: "/"}}, Registration: config.Registration{Address: c.address}}
		e := stoppedEntry(cfg, selfEntry(cfg, c.own, bound), time.Now(), recordFor)
		got := ""
		for _, check := range e.Checks {
			got += check.HTTP + check.TCP
		}
		if got != c.want {
			t.Errorf("%+v: it asks %q", c, got)
		}
	}
}

func TestRecordOfStoppedSidecar_IncludeMode_OperatorsListenerIsAsked(t *testing.T) {
	base := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(base, []byte("frontend www\n    bind *:80\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{Name: "lb0", HAProxy: config.HAProxy{BaseConfig: base}, Services: []config.Service{{Name: "api"}}}
	e := stoppedEntry(cfg, selfEntry(cfg, "10.0.0.2", &net.TCPAddr{IP: net.IPv4zero, Port: 9600}), time.Now(), recordFor)
	if len(e.Checks) != 2 || e.Checks[1].TCP != "10.0.0.2:80" {
		t.Errorf("got the checks %+v, want one of 10.0.0.2:80", e.Checks)
	}
}

// A template of one's own may bind, where no service does.
func TestRecordOfStoppedSidecar_TemplateBinds_ItsListenerIsAsked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte("global\n    stats socket /run/haproxy.sock\nfrontend www\n    bind :8080\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{Name: "lb0", HAProxy: config.HAProxy{Config: file}, Services: []config.Service{{Name: "api"}}}
	e := stoppedEntry(cfg, selfEntry(cfg, "10.0.0.2", &net.TCPAddr{IP: net.IPv4zero, Port: 9600}), time.Now(), recordFor)
	if len(e.Checks) != 2 || e.Checks[1].TCP != "10.0.0.2:8080" {
		t.Errorf("got the checks %+v, want one of 10.0.0.2:8080", e.Checks)
	}
}

func TestWhereTheSidecarIsReached(t *testing.T) {
	type where struct {
		Host, Address string
		Port          int
		Check         string
	}
	bound := &net.TCPAddr{IP: net.IPv4zero, Port: 9600}
	for name, c := range map[string]struct {
		status  config.API
		address string // what reach makes of the host
		want    where
	}{
		"on this machine only":          {config.API{Address: "127.0.0.1:9600"}, "127.0.0.1", where{"127.0.0.1", "127.0.0.1", 9600, "http://127.0.0.1:9600/healthz"}},
		"everywhere, Consul's node":     {config.API{Address: ":9600"}, "", where{"", "", 9600, "http://127.0.0.1:9600/healthz"}},
		"everywhere, found out":         {config.API{Address: "[::]:9600"}, "10.0.0.1", where{"", "10.0.0.1", 9600, "http://10.0.0.1:9600/healthz"}},
		"a host that is advertised":     {config.API{Address: ":9600", Advertise: "lb0-sidecar"}, "10.0.0.2", where{"lb0-sidecar", "10.0.0.2", 9600, "http://10.0.0.2:9600/healthz"}},
		"a port that is advertised":     {config.API{Address: ":9600", Advertise: "[fd00::1]:443"}, "fd00::1", where{"fd00::1", "fd00::1", 443, "http://[fd00::1]:443/healthz"}},
		"by TLS, whatever its name":     {config.API{Address: "10.0.0.1:9600", TLS: config.StatusTLS{CertFile: "/c", KeyFile: "/k"}}, "10.0.0.1", where{"10.0.0.1", "10.0.0.1", 9600, "https://10.0.0.1:9600/healthz"}},
		"an address that is advertised": {config.API{Address: ":9600", Advertise: "10.0.0.3"}, "10.0.0.3", where{"10.0.0.3", "10.0.0.3", 9600, "http://10.0.0.3:9600/healthz"}},
	} {
		cfg := config.Config{Name: "lb0", API: c.status}
		e := selfEntry(cfg, c.address, bound)
		got := where{selfHost(cfg), e.Address, e.Port, e.Checks[0].HTTP}
		if diff := cmp.Diff(got, c.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", name, diff)
		}
		if tls := c.status.TLS.CertFile != ""; e.Checks[0].TLSSkipVerify != tls || (e.Meta[contract.KeyScheme] == "https") != tls {
			t.Errorf("%s: TLS %v, got check %v and meta %q", name, tls, e.Checks[0].TLSSkipVerify, e.Meta[contract.KeyScheme])
		}
		if _, err := registrator.New(e.config(nil, nil)); c.status.Service != "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSidecar_ThatCannotBeAsked_SaysSo(t *testing.T) {
	for _, c := range []struct {
		consul, address, advertise, service string
		want                                bool
	}{
		{"127.0.0.1:8500", "127.0.0.1:9600", "", "s", false},
		{"consul:8500", "127.0.0.1:9600", "", "s", true},
		{"consul:8500", "localhost:9600", "", "s", true},
		{"consul:8500", "127.0.0.1:9600", "lb0:9600", "s", false},
		{"consul:8500", ":9600", "", "s", false},
		{"consul:8500", "127.0.0.1:9600", "", "", false},
	} {
		cfg := config.Config{Consul: config.Consul{Address: c.consul}, API: config.API{Address: c.address, Advertise: c.advertise, Service: c.service}}
		if got := isCutOff(cfg); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

// What another process has registered under the same ID stays as it is when this one stops:
// nodes that leave ask the sidecar that runs.
func TestRegistration_AnothersUnderItsID_StaysAtTheStop(t *testing.T) {
	t.Parallel()
	consul := consultest.StartProcess(t)
	client, err := api.NewClient(&api.Config{Address: consul.Address(), Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	own := entry{Service: "pointsman-sidecar", ID: "pointsman-sidecar-lb0", Address: "127.0.0.1", Port: 1}
	other := &api.AgentServiceRegistration{ID: own.ID, Name: own.Service, Address: "127.0.0.1", Port: 2, Meta: contract.Owner{Token: "another"}.Format()}
	if err := client.Agent().ServiceRegister(other); err != nil {
		t.Fatal(err)
	}
	var log proctest.Output
	r := &registration{consul: &api.Config{Address: consul.Address(), Scheme: "http"}, log: hclog.New(&hclog.LoggerOptions{Output: &log})}
	r.leave(t.Context(), own)
	r.deregister(t.Context(), own)
	is, _, err := client.Agent().Service(own.ID, nil)
	if err != nil || is.Port != 2 {
		t.Errorf("got %+v, %v, want the other's registration", is, err)
	}
}

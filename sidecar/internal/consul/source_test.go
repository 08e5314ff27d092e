package consul_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/lab"
)

// deadline bounds every wait for a fact; none takes it unless it fails.
const deadline = 30 * time.Second

// watched is a Source that runs, beside the agent that it asks.
type watched struct {
	*consul.Source
	t     *testing.T
	agent *api.Client
	stop  func() error
}

func start(t *testing.T, address string, o consul.Options, services ...consul.Service) *watched {
	t.Helper()
	o.Address = address
	if len(services) == 0 {
		services = []consul.Service{{Name: "web"}}
	}
	s, err := consul.New(o, services)
	if err != nil {
		t.Fatal(err)
	}
	// The agent ends connections in some tests, and a registration is not sent again.
	transport := &http.Transport{DisableKeepAlives: true}
	agent, err := api.NewClient(&api.Config{Address: address, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w := &watched{Source: s, t: t, agent: agent}
	var stopped bool
	w.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel(errStopped)
		select {
		case err := <-done:
			return err
		case <-time.After(deadline):
			return errors.New("Run does not return")
		}
	}
	t.Cleanup(func() { _ = w.stop() })
	return w
}

var errStopped = errors.New("stopped by the test")

// await waits for an event after which the snapshot is as wanted.
func (w *watched) await(what string, ok func(catalog.Snapshot) bool) catalog.Snapshot {
	w.t.Helper()
	over := time.After(deadline)
	for {
		if now := w.Snapshot(); ok(now) {
			return now
		}
		select {
		case <-w.Changed():
		case <-over:
			w.t.Fatalf("no %s within %v; web is %+v, health %+v", what, deadline, w.Snapshot().Service("web"), w.Health("web"))
		}
	}
}

// awaitHealth polls, for health has no event.
func (w *watched) awaitHealth(what string, ok func(catalog.SourceHealth) bool) catalog.SourceHealth {
	w.t.Helper()
	for over := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		if h := w.Health("web"); ok(h) {
			return h
		}
		if time.Now().After(over) {
			w.t.Fatalf("no %s within %v; health is %+v", what, deadline, w.Health("web"))
		}
	}
}

func (w *watched) register(id string, change ...func(*api.AgentServiceRegistration)) {
	w.t.Helper()
	r := &api.AgentServiceRegistration{
		ID: id, Name: "web", Address: "10.0.0.1", Port: 80,
		Check: &api.AgentServiceCheck{CheckID: "check-" + id, TTL: "10m", Status: api.HealthPassing},
	}
	for _, c := range change {
		c(r)
	}
	if err := w.agent.Agent().ServiceRegister(r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) deregister(id string) {
	w.t.Helper()
	if err := w.agent.Agent().ServiceDeregister(id); err != nil {
		w.t.Fatal(err)
	}
}

// servers is what is known of web, in short.
func servers(s catalog.Snapshot) []string {
	var out []string
	for _, i := range s.Service("web").Instances {
		out = append(out, i.Server+"="+i.Health.String())
	}
	return out
}

func are(want ...string) func(catalog.Snapshot) bool {
	return func(s catalog.Snapshot) bool { return s.Service("web").Known && slices.Equal(servers(s), want) }
}

// TestSourceFollowsCatalog runs each case on the fake and on the real program.
func TestSourceFollowsCatalog(t *testing.T) {
	cases := map[string]func(*testing.T, string){
		"a service without a registration is known and empty": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			if w.Snapshot().Service("web").Known && w.Health("web").Answered.IsZero() {
				t.Error("known before an answer")
			}
			w.await("empty service", are())
		},
		"claims, and the names of services that claim": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{}, consul.Service{Name: "web", Claims: consul.Claims{Tags: []string{"route="}}})
			names := make(chan []string, 10)
			ctx, cancel := context.WithCancel(t.Context())
			var following sync.WaitGroup
			following.Go(func() {
				w.FollowNames(ctx, func(_ string, tags []string) bool { return slices.Contains(tags, "route=a.test") }, func(found []string) { names <- found })
			})
			defer following.Wait()
			defer cancel()
			awaitNames := func(want ...string) {
				t.Helper()
				select {
				case got := <-names:
					if !slices.Equal(got, want) {
						t.Fatalf("names %q, want %q", got, want)
					}
				case <-time.After(deadline):
					t.Fatalf("no names, want %q", want)
				}
			}
			tagged := func(tags ...string) func(*api.AgentServiceRegistration) {
				return func(r *api.AgentServiceRegistration) { r.Tags = tags }
			}
			claims := func(want ...string) func(catalog.Snapshot) bool {
				return func(s catalog.Snapshot) bool {
					var got []string
					for _, c := range s.Service("web").Claims {
						got = append(got, c.Text)
					}
					return s.Service("web").Known && slices.Equal(got, want)
				}
			}
			awaitNames()
			w.register("a", tagged("v1"))
			w.await("instance without a claim", are("a=passing"))
			select {
			case <-w.Claimed(): // the first answers
			default:
			}
			w.register("b", tagged("route=a.test", "v2"))
			awaitNames("web")
			s := w.await("claim", claims("route=a.test"))
			select {
			case <-w.Claimed():
			case <-time.After(deadline):
				t.Error("no event of a claim")
			}
			if got, err := w.NamesOnce(ctx, func(name string, _ []string) bool { return name == "web" }); err != nil || !slices.Equal(got, []string{"web"}) {
				t.Errorf("asked once: %q, %v", got, err)
			}
			changed := w.Health("web").Changed
			w.register("b", tagged("v3"))
			awaitNames()
			select {
			case <-w.Claimed():
			case <-time.After(deadline):
				t.Error("no event of a claim that is gone")
			}
			if !claims()(w.Snapshot()) {
				t.Errorf("claims %v, want none", w.Snapshot().Service("web").Claims)
			}
			if !w.Health("web").Changed.Equal(changed) { // HAProxy runs what it ran
				t.Error("a claim is a change of the instances")
			}
			if s.Service("web").Equal(w.Snapshot().Service("web")) {
				t.Error("a claim makes no difference")
			}
		},
		"registered, gone, and back": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			w.await("empty service", are())
			w.register("a")
			w.register("b")
			w.await("two", are("a=passing", "b=passing"))
			w.deregister("a")
			w.await("one", are("b=passing"))
			w.deregister("b")
			w.await("none", are())
			w.register("a")
			w.await("one again", are("a=passing"))
		},
		"warning, critical, maintenance and gone are four facts": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			w.register("a")
			w.await("passing", are("a=passing"))
			for _, status := range []string{api.HealthWarning, api.HealthCritical, api.HealthPassing} {
				if err := w.agent.Agent().UpdateTTL("check-a", "", status); err != nil {
					t.Fatal(err)
				}
				w.await(status, are("a="+status))
			}
			if err := w.agent.Agent().EnableServiceMaintenance("a", "why"); err != nil {
				t.Fatal(err)
			}
			w.await("maintenance", are("a=maintenance"))
			w.deregister("a")
			w.await("none", are())
		},
		"meta, weight and address arrive, and the mark of leaving": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			w.register("a", func(r *api.AgentServiceRegistration) {
				r.Meta = map[string]string{"version": "1.0", "maxconn": "9"}
				r.Weights = &api.AgentWeights{Passing: 100, Warning: 10}
			})
			got := w.await("one", are("a=passing")).Service("web").Instances[0]
			if got.Version != "1.0" || got.MaxConn != 9 || got.Weight != 100 || got.Addr.String() != "10.0.0.1:80" || got.Node != lab.ConsulNode || !got.Leaving.IsZero() {
				t.Errorf("instance = %+v, want it as registered", got)
			}
			w.register("a", func(r *api.AgentServiceRegistration) {
				r.Meta = map[string]string{"pointsman-drain": "2026-11-23T15:04:05Z"}
			})
			got = w.await("the mark", func(s catalog.Snapshot) bool {
				i := s.Service("web").Instances
				return len(i) == 1 && !i[0].Leaving.IsZero()
			}).Service("web").Instances[0]
			if want := time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC); !got.Leaving.Equal(want) || got.Health != catalog.Passing {
				t.Errorf("leaving since %v and %v, want %v and passing", got.Leaving, got.Health, want)
			}
		},
		"a bad instance is left out and the rest goes on": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			w.register("a", func(r *api.AgentServiceRegistration) { r.Address = "evil;shutdown sessions\nserver" })
			w.register("b")
			s := w.await("the good one", func(s catalog.Snapshot) bool {
				return are("b=passing")(s) && len(s.Service("web").Rejected) == 1
			})
			if r := s.Service("web").Rejected[0]; r.ID != "a" || r.Node != lab.ConsulNode || !strings.Contains(r.Err.Error(), "service address") {
				t.Errorf("rejection = %+v, want a on test, for its service address", r)
			}
		},
		"tags are asked for": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{}, consul.Service{Name: "web", Tags: []string{"blue", "big"}})
			w.register("a", func(r *api.AgentServiceRegistration) { r.Tags = []string{"blue"} })
			w.register("b", func(r *api.AgentServiceRegistration) { r.Tags = []string{"big", "blue"} })
			w.await("the one with both", are("b=passing"))
			w.await("the other, in another role", func(s catalog.Snapshot) bool {
				u := s.Service("web").Untagged
				return len(u) == 1 && u[0].ID == "a" && u[0].Server == "a" && u[0].Addr.IsValid()
			})
			w.register("a", func(r *api.AgentServiceRegistration) { r.Tags = []string{"BIG", "blue"} })
			w.await("both, as Consul compares tags", func(s catalog.Snapshot) bool {
				return are("a=passing", "b=passing")(s) && len(s.Service("web").Untagged) == 0
			})
		},
		"one service has two backends": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{}, consul.Service{Name: "web", Backend: "first", Tags: []string{"primary"}},
				consul.Service{Name: "web", Backend: "second", Tags: []string{"replica"}})
			has := func(s catalog.Service, id, other string) bool {
				return len(s.Instances) == 1 && s.Instances[0].ID == id && len(s.Untagged) == 1 && s.Untagged[0].ID == other
			}
			as := func(tag string) func(*api.AgentServiceRegistration) {
				return func(r *api.AgentServiceRegistration) { r.Tags = []string{tag} }
			}
			w.register("a", as("primary"))
			w.register("b", as("replica"))
			w.await("one in each", func(s catalog.Snapshot) bool {
				return has(s.Service("first"), "a", "b") && has(s.Service("second"), "b", "a")
			})
			w.register("a", as("replica"))
			w.register("b", as("primary"))
			w.await("the other one in each", func(s catalog.Snapshot) bool {
				return has(s.Service("first"), "b", "a") && has(s.Service("second"), "a", "b")
			})
			if h := w.OldestHealth("web"); h.Answered.IsZero() || h.Answered.After(w.Health("second").Answered) {
				t.Errorf("oldest health = %+v, want that of one of the backends", h)
			}
		},
		"services come and go while it runs": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			w.register("a")
			w.await("one", are("a=passing"))
			if err := w.SetServices([]consul.Service{{Name: "web"}, {Name: "other"}}); err != nil {
				t.Fatal(err)
			}
			w.await("both", func(s catalog.Snapshot) bool { return s.Service("other").Known && s.Service("web").Known })
			if err := w.SetServices([]consul.Service{{Name: "other"}}); err != nil {
				t.Fatal(err)
			}
			w.await("the other only", func(s catalog.Snapshot) bool { return !s.Service("web").Known && s.Service("other").Known })
			if got := w.Health("web"); got != (catalog.SourceHealth{}) {
				t.Errorf("health of a service not watched = %+v, want none", got)
			}
		},
		"what is known stays while its tags change": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{})
			w.register("a", func(r *api.AgentServiceRegistration) { r.Tags = []string{"x"} })
			w.register("b")
			w.await("two", are("a=passing", "b=passing"))
			if err := w.SetServices([]consul.Service{{Name: "web", Tags: []string{"x"}}}); err != nil {
				t.Fatal(err)
			}
			over := time.After(deadline)
			for !are("a=passing")(w.Snapshot()) {
				if got := servers(w.Snapshot()); len(got) == 0 {
					t.Fatal("the service was empty between two answers")
				}
				select {
				case <-w.Changed():
				case <-over:
					t.Fatal("the new tags never counted")
				}
			}
		},
		"a wait that runs out changes nothing, and it follows on": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{WaitTime: time.Second})
			w.register("a")
			w.await("one", are("a=passing"))
			before := w.Health("web")
			after := w.awaitHealth("answer after the wait", func(h catalog.SourceHealth) bool { return h.Answered.After(before.Answered) })
			if !after.Changed.Equal(before.Changed) || after.Err != nil {
				t.Errorf("health after a wait = %+v, want changed %v and no error", after, before.Changed)
			}
			w.register("b")
			w.await("two", are("a=passing", "b=passing"))
		},
		"stale answers that are fresh enough are taken": func(t *testing.T, at string) {
			w := start(t, at, consul.Options{MaxStale: 10 * time.Second})
			w.register("a")
			w.await("one", are("a=passing"))
		},
	}
	program := consultest.StartProcess(t)
	for name, run := range cases {
		t.Run("fake/"+name, func(t *testing.T) { run(t, consultest.NewFake(t).Address()) })
		t.Run("consul/"+name, func(t *testing.T) {
			t.Cleanup(func() { forgetAll(t, program.Address()) })
			run(t, program.Address())
		})
	}
}

// forgetAll takes every service out of a real agent.
func forgetAll(t *testing.T, address string) {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Agent().Services()
	if err != nil {
		t.Fatal(err)
	}
	for id := range all {
		if err := c.Agent().ServiceDeregister(id); err != nil {
			t.Error(err)
		}
	}
}

func TestFilterIsConsuls(t *testing.T) {
	p := consultest.StartProcess(t)
	w := start(t, p.Address(), consul.Options{}, consul.Service{Name: "web", Filter: `Service.Meta.version == "2"`})
	w.register("a", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"version": "1"} })
	w.register("b", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"version": "2"} })
	w.await("the one that passes the filter", are("b=passing"))
	w.register("a", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"version": "2"} })
	w.await("both", are("a=passing", "b=passing"))
	if err := w.SetServices([]consul.Service{{Name: "web", Filter: "not a filter"}}); err != nil {
		t.Fatal(err)
	}
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), `service "web"`) || !strings.Contains(h.Err.Error(), p.Address()) {
		t.Errorf("error = %q, want service and address in it", h.Err)
	}
	if got := servers(w.Snapshot()); len(got) != 2 {
		t.Errorf("servers after a bad filter = %q, want both still", got)
	}
}

func TestOnlyANewFactIsAnEvent(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	w.register("a")
	before := w.await("one", are("a=passing")).Service("web").Index
	drain(w)
	changed := w.Health("web").Changed
	for range 5 {
		f.Touch("web")
	}
	for over := time.Now().Add(deadline); w.Snapshot().Service("web").Index < before+5; time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			t.Fatal("the index never rose")
		}
	}
	select {
	case <-w.Changed():
		t.Error("an event came for an index alone")
	default:
	}
	if got := w.Health("web").Changed; !got.Equal(changed) {
		t.Errorf("changed = %v, want %v as before", got, changed)
	}
}

func TestNoisyServiceIsAskedSparingly(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	w.register("a")
	w.await("one", are("a=passing"))
	before, began := len(f.Requests()), time.Now()
	for time.Since(began) < time.Second {
		f.Touch("web")
		time.Sleep(time.Millisecond)
	}
	// A burst of 10, and 5 a second.
	if got := len(f.Requests()) - before; got > 20 {
		t.Errorf("%d queries in a second of noise, want at most 20", got)
	}
	w.register("b")
	w.await("two", are("a=passing", "b=passing"))
}

func TestUnixSocketAddress(t *testing.T) {
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "consul.sock")
	f := consultest.NewFake(t)
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f, ReadHeaderTimeout: deadline}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	w := start(t, "unix://"+socket, consul.Options{})
	w.await("empty service", are())
}

func TestEveryQueryCarriesWhereToAsk(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{Datacenter: "dc 1", Namespace: "team&x", Partition: "p"},
		consul.Service{Name: "web/a b?c", Tags: []string{"t&1", "t2"}})
	w.await("answer", func(s catalog.Snapshot) bool { return s.Service("web/a b?c").Known })
	want := "/v1/health/service/web%2Fa%20b%3Fc?dc=dc+1&ns=team%26x&partition=p"
	if got := f.Requests()[0]; got != want {
		t.Errorf("first request = %q, want %q", got, want)
	}
	for _, got := range f.Requests() {
		if !strings.Contains(got, "dc=dc+1&") || !strings.Contains(got, "ns=team%26x&partition=p") {
			t.Errorf("request = %q, want datacenter, namespace and partition in it", got)
		}
	}
}

func TestRunEndsBlockedQueriesAndLeavesNothing(t *testing.T) {
	f := consultest.NewFake(t)
	before := goleak.IgnoreCurrent()
	var services []consul.Service
	for i := range 20 {
		services = append(services, consul.Service{Name: fmt.Sprint("s", i)})
	}
	w := start(t, f.Address(), consul.Options{}, services...)
	w.await("all answers", func(s catalog.Snapshot) bool { return len(s.Services()) == 20 })
	began := time.Now()
	if err := w.stop(); !errors.Is(err, errStopped) {
		t.Errorf("Run = %v, want the context's cause", err)
	}
	if stacks := stacks(); strings.Contains(stacks, "consul.(*watch).run") {
		t.Errorf("a watch runs after Run:\n%s", stacks)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Run took %v to end, want it at once", took)
	}
	if got := len(w.Snapshot().Services()); got != 20 {
		t.Errorf("%d services known after Run, want what was known", got)
	}
	goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http/httptest.(*Server).goServe.func1"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"))
}

// stacks are those of all goroutines, now; goleak waits a while for its leaks
// to end.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

func TestRunAgainAfterItHasEnded(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	w.await("empty service", are())
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("second Run at a time = %v, want an error", err)
	}
	if err := w.stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.register("a")
	w.await("one", are("a=passing"))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want it canceled", err)
	}
}

// Who looks again and again sees each answer that differs once, and no backend that is not
// watched any more.
func TestNews_AnswersAndOtherServices_WhatIsNewSince(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{}, consul.Service{Name: "s0"}, consul.Service{Name: "s1"})
	w.await("both answers", func(s catalog.Snapshot) bool { return len(s.Services()) == 2 })
	var seen uint64
	want := func(what string, from uint64, want ...string) {
		t.Helper()
		got := []string{}
		seen = w.News(from, func(backend string, changed time.Time) {
			if got = append(got, backend); changed.IsZero() {
				t.Errorf("%s: %s never changed", what, backend)
			}
		})
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	want("at first", 0, "s0", "s1")
	want("nothing is new", seen)
	if err := w.SetServices([]consul.Service{{Name: "s1"}, {Name: "s2"}}); err != nil {
		t.Fatal(err)
	}
	w.await("the other answer", func(s catalog.Snapshot) bool {
		return s.Service("s2").Known && !s.Service("s0").Known
	})
	want("another service", seen, "s2")
	want("from the beginning", 0, "s1", "s2")
}

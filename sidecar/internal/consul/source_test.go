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
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/proctest"
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
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
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
			if got.Version != "1.0" || got.MaxConn != 9 || got.Weight != 100 || got.Addr.String() != "10.0.0.1:80" || got.Node != "test" || !got.Leaving.IsZero() {
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
			if r := s.Service("web").Rejected[0]; r.ID != "a" || r.Node != "test" || !strings.Contains(r.Err.Error(), "service address") {
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

// TestKnownStaysThroughFault: whatever goes wrong, what is known stays, and
// when it goes right again the source follows on.
func TestKnownStaysThroughFault(t *testing.T) {
	faults := []consultest.Fault{
		consultest.NoLeader(), consultest.Denied(), consultest.Close(),
		consultest.Body("[]x"), consultest.Body("null"), consultest.Body("{}"), consultest.Body(""), consultest.Body("["),
		consultest.Body(`[{"Service":{"Port":"x"}}]`), consultest.Body("<html>"),
		consultest.Header("X-Consul-Index", "0"), consultest.Header("X-Consul-Index", ""), consultest.Header("X-Consul-Index", "-1"),
		consultest.Header("X-Consul-LastContact", ""), consultest.Header("X-Consul-LastContact", "18446744073709551615"),
		consultest.Header("X-Consul-KnownLeader", "false"),
		consultest.Header("X-Consul-Results-Filtered-By-ACLs", "true"),
	}
	for _, fault := range faults {
		t.Run(fault.String(), func(t *testing.T) {
			f := consultest.NewFake(t)
			w := start(t, f.Address(), consul.Options{})
			w.register("a")
			w.await("one", are("a=passing"))
			drain(w)
			f.Break(fault)
			f.Touch("web")
			w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
			if got := w.Snapshot(); !are("a=passing")(got) {
				t.Errorf("servers during the fault = %q, want a still", servers(got))
			}
			select {
			case <-w.Changed():
				t.Error("an event came though nothing is known to have changed")
			default:
			}
			f.Mend()
			w.register("b")
			w.await("two", are("a=passing", "b=passing"))
			if h := w.Health("web"); h.Err != nil {
				t.Errorf("error after the fault = %v, want none", h.Err)
			}
		})
	}
}

func drain(w *watched) {
	select {
	case <-w.Changed():
	default:
	}
}

// TestEmptyStreamedAnswerTakesNothingAway: an agent whose stream starts afresh
// gives an empty list with status 200.
func TestEmptyStreamedAnswerTakesNothingAway(t *testing.T) {
	for _, fault := range []consultest.Fault{consultest.StreamReset(), consultest.StreamLost()} {
		t.Run(fault.String(), func(t *testing.T) {
			f := consultest.NewFake(t)
			w := start(t, f.Address(), consul.Options{})
			w.register("a")
			w.await("one", are("a=passing"))
			f.Break(fault)
			before := len(f.Requests())
			for len(f.Requests()) < before+8 {
				if !are("a=passing")(w.Snapshot()) {
					t.Fatalf("servers = %q, want a still", servers(w.Snapshot()))
				}
				time.Sleep(time.Millisecond)
			}
			f.Mend()
			w.deregister("a")
			w.await("none", are())
		})
	}
}

func TestStaleAnswerIsAskedForAgainConsistently(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{MaxStale: time.Second})
	f.Break(consultest.Stale(1100 * time.Millisecond))
	w.register("a")
	w.await("one", are("a=passing"))
	requests := f.Requests()
	if !slices.ContainsFunc(requests, func(r string) bool { return strings.Contains(r, "consistent") }) {
		t.Errorf("requests = %q, want a consistent one", requests)
	}
	f.Break(consultest.Stale(time.Second))
	w.register("b")
	w.await("two", are("a=passing", "b=passing"))
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

func TestForgottenCatalogIsAskedFromTheStart(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	for i := range 20 {
		w.register(fmt.Sprint("a", i))
	}
	w.await("twenty", func(s catalog.Snapshot) bool { return len(s.Service("web").Instances) == 20 })
	f.Forget()
	w.await("none", are())
	w.register("b")
	w.await("one", are("b=passing"))
}

func TestSourceSurvivesRestartOfConsul(t *testing.T) {
	p := consultest.StartProcess(t)
	w := start(t, p.Address(), consul.Options{})
	w.register("a")
	w.await("one", are("a=passing"))
	p.Kill()
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), p.Address()) {
		t.Errorf("error = %q, want the address in it", h.Err)
	}
	if !are("a=passing")(w.Snapshot()) {
		t.Errorf("servers while Consul is down = %q, want a still", servers(w.Snapshot()))
	}
	p.Restart()
	w.register("b")
	w.await("the one of the new Consul", are("b=passing"))
}

func TestTokenIsRereadAndNeverShown(t *testing.T) {
	f := consultest.NewFake(t)
	path := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-secret\n")
	w := start(t, f.Address(), consul.Options{TokenFile: path, Token: "never-used"})
	w.await("empty service", are())
	if got := f.Tokens()[0]; got != "first-secret" {
		t.Errorf("token = %q, want that of the file", got)
	}
	write("second-secret")
	f.Break(consultest.Denied())
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if strings.Contains(h.Err.Error(), "secret") {
		t.Errorf("error = %q, which shows the token", h.Err)
	}
	f.Mend()
	w.awaitHealth("answer", func(h catalog.SourceHealth) bool { return h.Err == nil })
	if got := f.Tokens(); got[len(got)-1] != "second-secret" {
		t.Errorf("last token = %q, want the new one", got[len(got)-1])
	}
	// The file is gone: what was read last is used on.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	asked := len(f.Tokens())
	f.Touch("web")
	for over := time.Now().Add(deadline); len(f.Tokens()) == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			t.Fatal("no query without the file")
		}
	}
	if got := f.Tokens()[asked]; got != "second-secret" {
		t.Errorf("token without its file = %q, want the last", got)
	}
}

func TestMissingTokenFileIsAnErrorThatNamesIt(t *testing.T) {
	f := consultest.NewFake(t)
	path := filepath.Join(t.TempDir(), "token")
	w := start(t, f.Address(), consul.Options{TokenFile: path, Token: "never-used"})
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), path) {
		t.Errorf("error = %q, want the path in it", h.Err)
	}
	if got := f.Requests(); len(got) > 0 {
		t.Errorf("requests = %q, want none without the token", got)
	}
}

// aclConsul denies everything to those without a token.
func aclConsul(t *testing.T) string {
	t.Helper()
	management := "initial_management"
	if consultest.IsOld(t) {
		management = "master" // its name before 1.11
	}
	return fmt.Sprintf(`acl { enabled = true, default_policy = "deny", tokens { %s = %q, agent = %[2]q } }`, management, "11111111-2222-3333-4444-555555555555")
}

func TestAnswerThatAnACLHasEmptiedTakesNothingAway(t *testing.T) {
	const management = "11111111-2222-3333-4444-555555555555"
	p := consultest.StartProcess(t, aclConsul(t))
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(management), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, p.Address(), consul.Options{TokenFile: path, WaitTime: time.Second})
	agent, err := api.NewClient(&api.Config{Address: p.Address(), Token: management})
	if err != nil {
		t.Fatal(err)
	}
	w.agent = agent
	w.register("a")
	w.await("one", are("a=passing"))
	blind, _, err := agent.ACL().TokenCreate(&api.ACLToken{Description: "may read nothing"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(blind.SecretID), 0o600); err != nil {
		t.Fatal(err)
	}
	const fact = "an answer that ACLs have emptied can be told from an empty one"
	if consultest.IsOld(t) {
		// Nothing in the answer says so: the header is of 1.11.
		w.await("an empty service", are())
		compat.Consul(t, fact, "no")
		return
	}
	compat.Consul(t, fact, "yes")
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), "ACL") || strings.Contains(h.Err.Error(), blind.SecretID) {
		t.Errorf("error = %q, want it to speak of the ACL and not to show the token", h.Err)
	}
	if !are("a=passing")(w.Snapshot()) {
		t.Errorf("servers = %q, want a still", servers(w.Snapshot()))
	}
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

func (w *watched) awaitHealthOf(what string, ok func() error) {
	w.t.Helper()
	for over := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(over) {
			w.t.Fatalf("no %s within %v: %v", what, deadline, err)
		}
	}
}

// TestQueryAfterFailureStartsFromTheBeginning: servers that have lost the
// catalog behind an agent that lives would let the old index block for minutes.
func TestQueryAfterFailureStartsFromTheBeginning(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	w.register("a")
	w.await("one", are("a=passing"))
	f.Break(consultest.NoLeader())
	f.Touch("web")
	w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	asked := len(f.Requests())
	w.awaitHealthOf("next query", func() error {
		if len(f.Requests()) == asked {
			return errors.New("none yet")
		}
		return nil
	})
	if got := f.Requests()[asked]; strings.Contains(got, "index=") {
		t.Errorf("query after a failure = %q, want no index", got)
	}
}

// TestNoFailureIsLoggedAtAnOrdinaryStart: what the source gives up and asks
// again by itself is no failure.
func TestNoFailureIsLoggedAtAnOrdinaryStart(t *testing.T) {
	f := consultest.NewFake(t)
	var log proctest.Output
	w := start(t, f.Address(), consul.Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})}, fifty()...)
	w.await("all answers", allKnown)
	w.awaitHealthOf("blocked queries", func() error { return blocked(f) })
	w.register("a")
	w.await("one", are("a=passing"))
	f.Forget() // breaks the connections
	w.await("none", are())
	if err := w.stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	if got := log.String(); got != "" {
		t.Errorf("log = %q, want nothing", got)
	}
}

func TestOneLineForEachTransition(t *testing.T) {
	f := consultest.NewFake(t)
	var log proctest.Output
	w := start(t, f.Address(), consul.Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})})
	w.await("empty service", are())
	w.register("bad", func(r *api.AgentServiceRegistration) { r.Address = "evil\nname" })
	w.await("rejection", func(s catalog.Snapshot) bool { return len(s.Service("web").Rejected) == 1 })
	w.register("odd", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"maxconn": "many"} })
	w.await("odd one", are("odd=passing"))
	for range 5 {
		f.Touch("web")
	}
	f.Break(consultest.NoLeader())
	w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	asked := len(f.Requests())
	w.awaitHealthOf("more failures", func() error {
		if len(f.Requests()) < asked+3 {
			return errors.New("not yet")
		}
		return nil
	})
	f.Mend()
	w.awaitHealth("answer", func(h catalog.SourceHealth) bool { return h.Err == nil })
	if err := w.stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"instances changed": 3, `invalid instance ignored: service=web instance="\"bad\" on \"test\"`: 1,
		"invalid service meta ignored": 1, "Consul query failed": 1, "Consul query succeeded again": 1,
	} {
		if got := strings.Count(log.String(), line); got != want {
			t.Errorf("%d lines with %q, want %d, in:\n%s", got, line, want, log.String())
		}
	}
	if got := strings.Count(log.String(), "\n"); got != 7 {
		t.Errorf("%d lines, want 7:\n%s", got, log.String())
	}
}

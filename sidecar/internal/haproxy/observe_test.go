package haproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestObserveTellsWhoRunsWhatAndWhatIsNotThere(t *testing.T) {
	t.Parallel()
	backends := []backendSpec{{name: "api", servers: []serverSpec{{name: "one", addr: addr("127.0.0.1:9"), weight: 1}}}, {name: "empty"}}
	onEach(t, backends, func(t *testing.T, s subject) {
		o := s.observe(t, "api", "empty", "none")
		if !o.Running || o.PID == 0 || o.Caps.Version == "" || o.Marker != testMark {
			t.Errorf("got %+v", o)
		}
		if _, found := o.Backends["none"]; found || len(o.Backends) != 2 {
			t.Errorf("got backends %v", o.Backends)
		}
		if got := len(o.Backends["api"].Servers); got != 1 {
			t.Errorf("got %d servers of api, want 1", got)
		}
	})
}

// All at once or one by one, the same is read; also of a backend without servers, of
// one that is not there, and of one whose name others begin with.
func TestObserve_ManyBackends_SameAsOneByOne(t *testing.T) {
	t.Parallel()
	backends := []backendSpec{{name: "empty"}, {name: "backend"}}
	names := []string{"empty", "backend", "none"}
	for i := range 120 {
		name := fmt.Sprintf("backend-%s-%03d", strings.Repeat("long", 20), i)
		names = append(names, name)
		servers := []serverSpec{{name: "s", addr: addr("127.0.0.1:9"), weight: i%3 + 1, maxConn: i % 5}, {name: name + ".s", addr: addr("[::1]:9"), weight: 1, backup: true, disabled: i%2 > 0}}
		backends = append(backends, backendSpec{name: name, servers: servers})
	}
	onEach(t, backends, func(t *testing.T, s subject) {
		whole := s.observe(t, names...)
		if got := len(whole.Backends); got != 122 {
			t.Errorf("got %d backends, want 122", got)
		}
		each, err := readEach(t.Context(), s.client.ask, names, maxCommandsOld)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			got, found := whole.Backends[name]
			if _, want := each.backends[name]; found != want {
				t.Fatalf("%s: found %v at once, %v alone", name, found, want)
			}
			if diff := cmp.Diff(planServers(each.backends[name]), got.Servers, cmpopts.IgnoreFields(plan.Server{}, "SinceChange"), cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y }), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: alone and at once:\n%s", name, diff)
			}
		}
	})
}

// HAProxy writes one table after the other. A server that the loop deletes meanwhile
// makes no comparison fail: its backend is read by itself.
func TestReadWorker_ServerDeletedBetweenTheTables_IsReadAlone(t *testing.T) {
	t.Parallel()
	var backends []backendSpec
	var names []string
	for i := range wholeFrom {
		names = append(names, fmt.Sprintf("b-%d", i))
		backends = append(backends, backendSpec{name: names[i], servers: []serverSpec{{name: "one", addr: addr("127.0.0.1:9"), weight: 1}, {name: "two", addr: addr("127.0.0.1:9"), weight: 1, disabled: true}}})
	}
	onEach(t, backends, func(t *testing.T, s subject) {
		ask := func(ctx context.Context, commands []string) (string, error) {
			last := len(commands) - 1
			if !strings.HasPrefix(commands[last], "show stat -1") {
				return s.client.ask(ctx, commands)
			}
			states, err := s.client.ask(ctx, commands[:last])
			if err != nil {
				return "", err
			}
			if err := s.client.Apply(ctx, []plan.Step{{Kind: plan.Delete, Backend: "b-7", Server: "two"}})[0]; err != nil {
				t.Fatal(err)
			}
			stats, err := s.client.ask(ctx, commands[last:])
			return states + stats, err
		}
		view, err := readWorker(t.Context(), ask, names, maxCommandsOld)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(view.backends); got != wholeFrom {
			t.Errorf("got %d backends, want %d", got, wholeFrom)
		}
		if got := view.backends["b-7"]; len(got) != 1 || got[0].serverState.name != "one" {
			t.Errorf("got %+v, want the server that is left", got)
		}
	})
}

func TestAConfigurationWithoutAMarkerIsNotOurs(t *testing.T) {
	t.Parallel()
	for _, global := range []string{"", "setenv POINTSMAN_MARK nonsense", "setenv POINTSMAN_MARK 2.aa.bb.cc", "setenv POINTSMAN_MARK 1.aa.bb"} {
		p := haproxytest.StartWith(t, haproxytest.Options{Global: global}, "backend api\n")
		if got := newSubject(t, p.Runtime(), p.Master()).observe(t).Marker; got != (plan.Marker{}) {
			t.Errorf("%q: got %+v, want the zero Marker", global, got)
		}
	}
}

func TestObserveOfABackendThatSharesItsNameWithAFrontend(t *testing.T) {
	t.Parallel()
	config := fmt.Sprintf("frontend api\n  bind %s\n  default_backend api\nbackend api\n  server one 127.0.0.1:9 maxconn 7\n", haproxytest.FreeAddr(t))
	p := haproxytest.Prepare(t, haproxytest.Options{}, config)
	if out, valid := p.Check(); !valid {
		if strings.Contains(out, "has the same name as frontend") {
			return // 3.3 and newer refuse such a file, so there is nothing to read
		}
		t.Fatal(out)
	}
	p.Launch()
	servers := newSubject(t, p.Runtime(), p.Master()).observe(t, "api").Backends["api"].Servers
	if len(servers) != 1 || servers[0].MaxConn != 7 {
		t.Errorf("got %+v", servers)
	}
}

func TestASwitchedOffCheckIsSeen(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend api\n  server one 127.0.0.1:9 check inter 1h\n")
	s := newSubject(t, p.Runtime(), p.Master())
	p.Command("disable health api/one")
	if s.observe(t, "api").Backends["api"].Servers[0].Checked {
		t.Error("got Checked, want it off")
	}
	s.client.Apply(t.Context(), []plan.Step{{Kind: plan.EnableHealth, Backend: "api", Server: "one"}})
	if !s.observe(t, "api").Backends["api"].Servers[0].Checked {
		t.Error("got not Checked after EnableHealth")
	}
}

func TestTheTimeSinceAServersLastChangeRestartsWithDrainAndWithMaint(t *testing.T) {
	t.Parallel() // it waits, for HAProxy's clock of seconds
	onEach(t, []backendSpec{{name: "api", servers: []serverSpec{{name: "one", addr: addr("127.0.0.1:9"), weight: 1}}}}, func(t *testing.T, s subject) {
		since := func() time.Duration { return s.observe(t, "api").Backends["api"].Servers[0].SinceChange }
		for _, kind := range []plan.Kind{plan.SetDrain, plan.SetMaint, plan.SetDrain} {
			haproxytest.Until(t, "the last change is 2 s ago", func() bool { return since() >= 2*time.Second })
			if err := s.client.Apply(t.Context(), []plan.Step{{Kind: kind, Backend: "api", Server: "one"}})[0]; err != nil {
				t.Fatal(err)
			}
			if got := since(); got > time.Second {
				t.Errorf("%s: got %s since the last change, want less than 2 s", kind, got)
			}
		}
	})
}

func TestAServerThatMustBeProvedIsUpOnlyOnceHAProxysCheckHasPassed(t *testing.T) {
	t.Parallel()
	node := haproxytest.StartNode(t, "n")
	p := haproxytest.Start(t, fmt.Sprintf("backend api\n  server live %s check inter 50ms disabled\n  server dead %s check inter 50ms disabled\n", node.Addr(), haproxytest.FreeAddr(t)))
	s := newSubject(t, p.Runtime(), p.Master())
	steps := []plan.Step{
		{Kind: plan.SetReady, Backend: "api", Server: "live", Prove: true},
		{Kind: plan.SetReady, Backend: "api", Server: "dead", Prove: true},
	}
	for _, err := range s.client.Apply(t.Context(), steps) {
		if err != nil {
			t.Fatal(err)
		}
	}
	haproxytest.Until(t, "the live server is up", func() bool {
		servers := s.observe(t, "api").Backends["api"].Servers
		if servers[1].Up {
			t.Fatal("the dead server is up")
		}
		return servers[0].Up
	})
}

func TestNothingRunsWhereNoSocketIsAndWhereNothingListens(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend api\n")
	missing := newTestClient(t, Options{Runtime: p.Runtime() + "x", Master: p.Master() + "x"})
	dead := newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master()})
	p.Kill()
	for what, c := range map[string]*Client{"missing": missing, "dead": dead} {
		_, err := c.Observe(t.Context(), []string{"api"})
		if !errors.Is(err, plan.ErrNotRunning) || !strings.Contains(errText(err), p.Runtime()) {
			t.Errorf("%s: Observe: got %v", what, err)
		}
		for _, err := range c.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}}) {
			if !errors.Is(err, plan.ErrNotRunning) {
				t.Errorf("%s: Apply: got %v", what, err)
			}
		}
		if err := c.Reload(t.Context(), testMark); !errors.Is(err, plan.ErrNotRunning) {
			t.Errorf("%s: Reload: got %v", what, err)
		}
	}
}

func TestADeadRuntimeSocketIsReplacedByTheMaster(t *testing.T) {
	t.Parallel()
	for _, profile := range []haproxytest.Profile{haproxytest.V26, haproxytest.V34} {
		f := newFake(t, profile, []backendSpec{{name: "api", servers: []serverSpec{
			{name: "one", addr: addr("127.0.0.1:9"), weight: 1}, {name: "two", addr: addr("127.0.0.1:9"), weight: 1, disabled: true},
		}}})
		s := newSubject(t, f.Runtime(), f.Master())
		f.CloseRuntime()
		throughMaster(t, s)
	}
}

func TestARealWorkerIsReachedThroughItsMaster(t *testing.T) {
	t.Parallel()
	p := haproxytest.StartWith(t, marked(testMark), "backend api\n  server one 127.0.0.1:9\n  server two 127.0.0.1:9 disabled\n")
	throughMaster(t, newSubject(t, p.Runtime()+"-gone", p.Master()))
}

// throughMaster observes, changes and deletes without a runtime socket.
func throughMaster(t *testing.T, s subject) {
	t.Helper()
	steps := []plan.Step{
		{Kind: plan.SetAddr, Backend: "api", Server: "two", Addr: addr("127.0.0.9:90")},
		{Kind: plan.SetDrain, Backend: "api", Server: "one"},
		{Kind: plan.Add, Backend: "api", Server: "new", Addr: addr("127.0.0.8:80"), Weight: 1},
		{Kind: plan.SetMaint, Backend: "api", Server: "new"},
		{Kind: plan.Delete, Backend: "api", Server: "new"},
	}
	for i, err := range s.client.Apply(t.Context(), steps) {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	s.expect(t, "api", []plan.Server{
		{Name: "one", Addr: addr("127.0.0.1:9"), Admin: plan.Drain, Up: true, Weight: 1, ConfigWeight: 1, NoCheck: true},
		{Name: "two", Addr: addr("127.0.0.9:90"), Admin: plan.Maint, FileDisabled: true, Weight: 1, ConfigWeight: 1, NoCheck: true},
	})
	if got := s.observe(t, "api").Marker; got != testMark {
		t.Errorf("got marker %+v", got)
	}
}

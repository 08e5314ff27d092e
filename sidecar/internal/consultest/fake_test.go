package consultest_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/lab"
)

// deadline bounds every case; none waits for it unless it fails.
const deadline = 30 * time.Second

// TestFakeAnswersAsConsul runs each case on the fake and on the real program.
func TestFakeAnswersAsConsul(t *testing.T) {
	cases := map[string]func(*testing.T, *agent){
		"a service without checks passes by its node's":             serviceWithoutChecks,
		"a check without a status is critical":                      checkWithoutStatus,
		"a check keeps its state when it is registered again":       checkKeepsState,
		"replacing checks removes those that are not named":         checksReplaced,
		"weights are 1 and 1 unless said":                           defaultWeights,
		"meta, tags, address and port come back":                    registrationComesBack,
		"an instance must have every tag asked for":                 tags,
		"an update of a check shows":                                updateShows,
		"an unknown check cannot be updated":                        unknownCheck,
		"service maintenance is a critical check of its own":        serviceMaintenance,
		"node maintenance shows on every service of the node":       nodeMaintenance,
		"a deregistered service is gone, and its index rises":       deregistered,
		"a second deregistration is not found":                      secondDeregistration,
		"an agent knows its service, and not one that it never had": agentKnows,
		"an unknown service is an empty list with an index":         unknownService,
		"a query that waits returns when its service changes":       blockedQueryReturns,
		"a query that waits is not answered for another service":    otherServiceChanges,
		"a wait that runs out gives the same index":                 waitRunsOut,
		"one ID can stand on two nodes":                             twoNodes,
	}
	consul := consultest.StartProcess(t)
	for name, run := range cases {
		t.Run("fake/"+name, func(t *testing.T) { run(t, newAgent(t, consultest.NewFake(t).Address())) })
		t.Run("consul/"+name, func(t *testing.T) {
			a := newAgent(t, consul.Address())
			a.isReal, a.isOld = true, consultest.IsOld(t)
			run(t, a)
		})
	}
}

// agent is a client with a service name of its own, so that cases share one
// Consul.
type agent struct {
	t    *testing.T
	api  *api.Client
	name string

	isReal bool // no fake
	isOld  bool // a Consul before 1.14
}

// note keeps what the real one does.
func (a *agent) note(fact, value string) {
	a.t.Helper()
	if a.isReal {
		compat.Consul(a.t, fact, value)
	}
}

func newAgent(t *testing.T, address string) *agent {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClient(&api.Config{Address: address, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(t.Name(), "/")
	return &agent{t: t, api: c, name: strings.NewReplacer("/", "-", ",", "", "_", "-").Replace(name)}
}

func (a *agent) register(change func(*api.AgentServiceRegistration)) {
	a.t.Helper()
	r := &api.AgentServiceRegistration{Name: a.name, ID: a.name + "-1", Port: 4000}
	if change != nil {
		change(r)
	}
	if err := a.api.Agent().ServiceRegisterOpts(r, api.ServiceRegisterOpts{ReplaceExistingChecks: true}); err != nil {
		a.t.Fatalf("register: %v", err)
	}
	id := r.ID
	a.t.Cleanup(func() { _ = a.api.Agent().ServiceDeregister(id) })
}

// await asks until the instances are as wanted.
func (a *agent) await(want string, ok func([]*api.ServiceEntry) bool, tags ...string) []*api.ServiceEntry {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), deadline)
	defer cancel()
	options := (&api.QueryOptions{WaitTime: time.Second}).WithContext(ctx)
	for {
		got, meta, err := a.api.Health().ServiceMultipleTags(a.name, tags, false, options)
		if err != nil {
			a.t.Fatalf("wait for %s: %v", want, err)
		}
		if ok(got) {
			return got
		}
		options.WaitIndex = meta.LastIndex
	}
}

func (a *agent) index() uint64 {
	a.t.Helper()
	_, meta, err := a.api.Health().Service(a.name, "", false, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if meta.LastIndex < 1 || !meta.KnownLeader || meta.LastContact != 0 {
		a.t.Errorf("meta = %+v, want an index, a leader and no age", meta)
	}
	return meta.LastIndex
}

func one(got []*api.ServiceEntry) bool  { return len(got) == 1 }
func none(got []*api.ServiceEntry) bool { return len(got) == 0 }

func status(want string) func([]*api.ServiceEntry) bool {
	return func(got []*api.ServiceEntry) bool { return one(got) && got[0].Checks.AggregatedStatus() == want }
}

func withTTL(id, status string) func(*api.AgentServiceRegistration) {
	return func(r *api.AgentServiceRegistration) {
		r.Checks = append(r.Checks, &api.AgentServiceCheck{CheckID: r.Name + id, TTL: "10m", Status: status})
	}
}

func serviceWithoutChecks(t *testing.T, a *agent) {
	a.register(nil)
	got := a.await("one instance", one)
	if len(got[0].Checks) != 1 || got[0].Checks[0].CheckID != "serfHealth" {
		t.Errorf("checks = %v, want the node's only", got[0].Checks)
	}
	if got := got[0].Node; got.Address != "127.0.0.1" || got.Node != lab.ConsulNode {
		t.Errorf("node = %q at %q, want test at 127.0.0.1", got.Node, got.Address)
	}
}

func checkWithoutStatus(_ *testing.T, a *agent) {
	a.register(withTTL("c", ""))
	a.await("critical", status(api.HealthCritical))
}

func checkKeepsState(t *testing.T, a *agent) {
	a.register(withTTL("c", api.HealthWarning))
	a.await("warning", status(api.HealthWarning))
	a.register(func(r *api.AgentServiceRegistration) {
		withTTL("c", api.HealthPassing)(r)
		r.Meta = map[string]string{"second": "true"}
	})
	got := a.await("the second registration", func(got []*api.ServiceEntry) bool {
		return one(got) && got[0].Service.Meta["second"] == "true"
	})
	if got := got[0].Checks.AggregatedStatus(); got != api.HealthWarning {
		t.Errorf("state = %q, want the one from before, %q", got, api.HealthWarning)
	}
}

func checksReplaced(_ *testing.T, a *agent) {
	a.register(withTTL("old", api.HealthCritical))
	a.await("critical", status(api.HealthCritical))
	a.register(withTTL("new", api.HealthPassing))
	a.await("passing", status(api.HealthPassing))
}

func defaultWeights(t *testing.T, a *agent) {
	a.register(nil)
	if got := a.await("one instance", one)[0].Service.Weights; got != (api.AgentWeights{Passing: 1, Warning: 1}) {
		t.Errorf("weights = %+v, want 1 and 1", got)
	}
}

func registrationComesBack(t *testing.T, a *agent) {
	a.register(func(r *api.AgentServiceRegistration) {
		r.Address, r.Tags, r.Meta = "10.0.0.9", []string{"x"}, map[string]string{"version": "1.0"}
		r.Weights = &api.AgentWeights{Passing: 7, Warning: 3}
	})
	got := a.await("one instance", one)[0].Service
	if got.ID != a.name+"-1" || got.Address != "10.0.0.9" || got.Port != 4000 || got.Meta["version"] != "1.0" ||
		!slices.Equal(got.Tags, []string{"x"}) || got.Weights != (api.AgentWeights{Passing: 7, Warning: 3}) {
		t.Errorf("service = %+v, want it as registered", got)
	}
}

func tags(_ *testing.T, a *agent) {
	a.register(func(r *api.AgentServiceRegistration) { r.Tags = []string{"a", "b"} })
	a.await("one with both", one, "a", "b")
	a.await("none with another", none, "a", "c")
}

func updateShows(t *testing.T, a *agent) {
	a.register(withTTL("c", api.HealthPassing))
	for _, want := range []string{api.HealthWarning, api.HealthCritical, api.HealthPassing} {
		if err := a.api.Agent().UpdateTTL(a.name+"c", "", want); err != nil {
			t.Fatal(err)
		}
		a.await(want, status(want))
	}
}

func unknownCheck(t *testing.T, a *agent) {
	err := a.api.Agent().UpdateTTL(a.name+"none", "", api.HealthPassing)
	if a.isOld && err != nil && strings.Contains(err.Error(), "500") {
		a.note("an update of a check that the agent does not have", "status 500")
		return
	}
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("update: %v, want 404", err)
	}
	a.note("an update of a check that the agent does not have", "status 404")
}

func serviceMaintenance(t *testing.T, a *agent) {
	a.register(withTTL("c", api.HealthPassing))
	if err := a.api.Agent().EnableServiceMaintenance(a.name+"-1", "why"); err != nil {
		t.Fatal(err)
	}
	a.await("maintenance", status(api.HealthMaint))
	if err := a.api.Agent().DisableServiceMaintenance(a.name + "-1"); err != nil {
		t.Fatal(err)
	}
	a.await("passing", status(api.HealthPassing))
}

func nodeMaintenance(t *testing.T, a *agent) {
	a.register(nil)
	if err := a.api.Agent().EnableNodeMaintenance("why"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.api.Agent().DisableNodeMaintenance() })
	a.await("maintenance", status(api.HealthMaint))
	if err := a.api.Agent().DisableNodeMaintenance(); err != nil {
		t.Fatal(err)
	}
	a.await("passing", status(api.HealthPassing))
}

func deregistered(t *testing.T, a *agent) {
	a.register(nil)
	a.await("one instance", one)
	before := a.index()
	if err := a.api.Agent().ServiceDeregister(a.name + "-1"); err != nil {
		t.Fatal(err)
	}
	a.await("none", none)
	if after := a.index(); after <= before {
		t.Errorf("index = %d, want above %d", after, before)
	}
}

func secondDeregistration(t *testing.T, a *agent) {
	a.register(nil)
	if err := a.api.Agent().ServiceDeregister(a.name + "-1"); err != nil {
		t.Fatal(err)
	}
	err := a.api.Agent().ServiceDeregister(a.name + "-1")
	if a.isOld && err == nil {
		a.note("a second deregistration", "status 200")
		return
	}
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("second deregistration: %v, want 404", err)
	}
	a.note("a second deregistration", "status 404")
}

func agentKnows(t *testing.T, a *agent) {
	a.register(nil)
	if _, _, err := a.api.Agent().Service(a.name+"-1", nil); err != nil {
		t.Errorf("its service: %v", err)
	}
	if _, _, err := a.api.Agent().Service(a.name+"-2", nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a service it never had: %v, want 404", err)
	}
}

func unknownService(_ *testing.T, a *agent) {
	a.await("none", none)
	a.index()
}

func blockedQueryReturns(t *testing.T, a *agent) {
	a.register(withTTL("c", api.HealthPassing))
	a.await("one instance", one)
	before := a.index()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	done := make(chan error, 1)
	go func() { // the query may start before or after the change: both must return
		done <- a.api.Agent().UpdateTTL(a.name+"c", "", api.HealthCritical)
	}()
	_, meta, err := a.api.Health().Service(a.name, "", false, (&api.QueryOptions{WaitIndex: before, WaitTime: deadline}).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if meta.LastIndex <= before {
		t.Errorf("index = %d, want above %d", meta.LastIndex, before)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func otherServiceChanges(t *testing.T, a *agent) {
	a.register(nil)
	a.await("one instance", one)
	before := a.index()
	other := *a
	other.name += "-other"
	other.register(nil)
	other.await("one instance", one)
	if after := a.index(); after != before {
		t.Errorf("index = %d, want %d as before", after, before)
	}
}

func waitRunsOut(t *testing.T, a *agent) {
	a.register(nil)
	a.await("one instance", one)
	before := a.index()
	got, meta, err := a.api.Health().Service(a.name, "", false, &api.QueryOptions{WaitIndex: before, WaitTime: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if meta.LastIndex != before || len(got) != 1 {
		t.Errorf("index %d and %d instances, want %d and 1", meta.LastIndex, len(got), before)
	}
}

func twoNodes(t *testing.T, a *agent) {
	for _, node := range []string{"n1", "n2"} {
		r := &api.CatalogRegistration{Node: node, Address: "10.0.0.1", SkipNodeUpdate: false, Service: &api.AgentService{ID: a.name, Service: a.name, Port: 80}}
		if _, err := a.api.Catalog().Register(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	a.await("two", func(got []*api.ServiceEntry) bool { return len(got) == 2 })
}

package consul_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/proctest"
)

func onLoopback(r *api.AgentServiceRegistration) { r.Address = "127.0.0.1" }

// elsewhere registers an instance on another node.
func (w *watched) elsewhere(id, address string) {
	w.t.Helper()
	_, err := w.agent.Catalog().Register(&api.CatalogRegistration{
		Node: "elsewhere", Address: "192.0.2.1",
		Service: &api.AgentService{ID: id, Service: "web", Address: address, Port: 80},
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
}

// leavesOut reports whether an instance is left out for a reason.
func leavesOut(id, why string) func(catalog.Snapshot) bool {
	return func(s catalog.Snapshot) bool {
		for _, r := range s.Service("web").Rejected {
			if r.ID == id && strings.Contains(r.Err.Error(), why) {
				return true
			}
		}
		return false
	}
}

func TestLoopback_OfAnotherNode_IsLeftOut(t *testing.T) {
	for name, address := range map[string]func(*testing.T) string{
		"fake": func(t *testing.T) string { return consultest.NewFake(t).Address() },
		"real": func(t *testing.T) string { return consultest.StartProcess(t).Address() },
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, address(t), consul.Options{})
			w.register("own", onLoopback)
			w.await("the own node's", are("own=passing"))
			w.elsewhere("near", "127.0.0.1")
			w.elsewhere("far", "10.0.0.2")
			s := w.await("the far one", are("far=passing", "own=passing"))
			if !leavesOut("near", "loopback")(s) {
				t.Errorf("rejected = %+v, want near for its loopback address", s.Service("web").Rejected)
			}
		})
	}
}

// Consul may forbid the sidecar to ask its agent who it is.
func TestLoopback_WithoutAgentRead_NodeIsFoundByItsChecks(t *testing.T) {
	const management = "11111111-2222-3333-4444-555555555555"
	p := consultest.StartProcess(t, aclConsul(t))
	agent, err := api.NewClient(&api.Config{Address: p.Address(), Token: management})
	if err != nil {
		t.Fatal(err)
	}
	// Consul 1.8 begins in the legacy mode of ACLs, also after it has a leader.
	proctest.Until(t, 20*time.Second, "the ACL system", func() bool {
		_, _, err := agent.ACL().PolicyList(nil)
		return err == nil
	})
	policy, _, err := agent.ACL().PolicyCreate(&api.ACLPolicy{Name: "sidecar", Rules: `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := agent.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, p.Address(), consul.Options{Token: token.SecretID})
	w.agent = agent
	w.register("own", onLoopback)
	w.await("the own node's", are("own=passing"))
	w.elsewhere("near", "127.0.0.1")
	w.await("the other left out", leavesOut("near", "loopback"))
}

// An agent that does not say who it is makes nothing lost: unknown is not
// empty.
func TestLoopback_AgentDoesNotSayItsNode_TakesNothingAway(t *testing.T) {
	f := consultest.NewFake(t)
	var silent atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if silent.Load() && r.URL.Path == "/v1/agent/self" {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
			return
		}
		f.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	t.Cleanup(proxy.CloseClientConnections)
	silent.Store(true)
	w := start(t, strings.TrimPrefix(proxy.URL, "http://"), consul.Options{WaitTime: time.Second})
	t.Cleanup(func() { _ = w.stop() })
	w.register("own", onLoopback)
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(fmt.Sprint(h.Err), "for its node") {
		t.Errorf("error = %v, want that the agent's node is not known", h.Err)
	}
	if s := w.Snapshot().Service("web"); s.Known && len(s.Rejected) > 0 {
		t.Errorf("web = %+v, want that nothing is concluded", s)
	}
	silent.Store(false)
	w.await("the own node's", are("own=passing"))
}

func TestAddresses_ChangedForRunningSource_AreAppliedAtOnce(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	w.register("a")
	w.await("one", are("a=passing"))
	// Each query waits before the next is begun: one that arrives late would be taken for
	// another's.
	waits := func() {
		w.awaitHealthOf("query that waits", func() error {
			asked := f.Requests()
			if last := asked[len(asked)-1]; !strings.Contains(last, fmt.Sprintf("index=%d&", w.Snapshot().Service("web").Index)) {
				return fmt.Errorf("the last is %s", last)
			}
			return nil
		})
	}
	waits()
	denied := consul.Service{Name: "web", Addresses: consul.Addresses{Own: []consul.Listener{{Addr: netip.MustParseAddr("10.0.0.1"), First: 80, Last: 80, What: "frontend x"}}}}
	if err := w.SetServices([]consul.Service{denied}); err != nil {
		t.Fatal(err)
	}
	w.await("it left out", leavesOut("a", "frontend x"))
	waits()
	if err := w.SetServices([]consul.Service{{Name: "web"}}); err != nil {
		t.Fatal(err)
	}
	w.await("it back", are("a=passing"))

	// Listeners that have no instance's address, as those of another service, disturb
	// no query that waits. Between two queries the other service may take the
	// connection, and a younger one carries no index.
	waits()
	before := len(f.Requests())
	other := consul.Service{Name: "web", Addresses: consul.Addresses{Own: []consul.Listener{{Addr: netip.MustParseAddr("10.0.0.1"), First: 81, Last: 81, What: "frontend y"}}}}
	if err := w.SetServices([]consul.Service{other, {Name: "more"}}); err != nil {
		t.Fatal(err)
	}
	w.await("the other service", func(s catalog.Snapshot) bool { return s.Service("more").Known })
	for _, r := range f.Requests()[before:] {
		if strings.Contains(r, "/web") && !strings.Contains(r, "index=") { // a query that starts from the beginning
			t.Errorf("asked again: %s of %q", r, f.Requests())
		}
	}
	// An agent port that they refuse is taken once they are gone.
	w.register("c", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"pointsman-agent-port": "81"} })
	agent := func(port int) func(s catalog.Snapshot) bool {
		return func(s catalog.Snapshot) bool {
			return slices.ContainsFunc(s.Service("web").Instances, func(i catalog.Instance) bool { return i.ID == "c" && i.AgentPort == port })
		}
	}
	w.await("its agent port left out", agent(0))
	if err := w.SetServices([]consul.Service{{Name: "web"}}); err != nil {
		t.Fatal(err)
	}
	w.await("its agent port", agent(81))
	if err := w.SetServices([]consul.Service{other}); err != nil {
		t.Fatal(err)
	}
	w.await("its agent port left out again", agent(0))
	// But they count from then on.
	w.register("b", func(r *api.AgentServiceRegistration) { r.Port = 81 })
	w.await("the new one left out", leavesOut("b", "frontend y"))
}

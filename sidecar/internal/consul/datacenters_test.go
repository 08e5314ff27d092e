package consul_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/lab"
)

// twoDatacenters is an agent of dc1 that passes queries on to dc2 and dc3, and who
// registers there.
type twoDatacenters struct {
	*watched
	fakes map[string]*consultest.Fake
	other *api.Client
	third *api.Client                                                   // of dc3
	own   atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // answers some requests itself
}

var bothDatacenters = consul.Service{Name: "web", Datacenters: []string{"dc1", "dc2"}}

func startTwo(t *testing.T, services ...consul.Service) *twoDatacenters {
	t.Helper()
	d := &twoDatacenters{fakes: map[string]*consultest.Fake{"dc1": consultest.NewFake(t), "dc2": consultest.NewFake(t), "dc3": consultest.NewFake(t)}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own := d.own.Load(); own != nil && (*own)(w, r) {
			return
		}
		fake := d.fakes["dc1"]
		if dc := r.URL.Query().Get("dc"); dc != "" {
			fake = d.fakes[dc]
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	t.Cleanup(front.CloseClientConnections)
	var err error
	if d.other, err = api.NewClient(&api.Config{Address: d.fakes["dc2"].Address()}); err != nil {
		t.Fatal(err)
	}
	if d.third, err = api.NewClient(&api.Config{Address: d.fakes["dc3"].Address()}); err != nil {
		t.Fatal(err)
	}
	d.watched = &watched{t: t}
	if d.agent, err = api.NewClient(&api.Config{Address: d.fakes["dc1"].Address()}); err != nil {
		t.Fatal(err)
	}
	if len(services) == 0 {
		services = []consul.Service{bothDatacenters}
	}
	d.watched = start(t, strings.TrimPrefix(front.URL, "http://"), consul.Options{}, services...)
	return d
}

// inOther registers in dc2.
func (d *twoDatacenters) inOther(id string, change ...func(*api.AgentServiceRegistration)) {
	d.t.Helper()
	(&watched{t: d.t, agent: d.other}).register(id, change...)
}

// roles is what is known of web: each server, and which are backups.
func roles(s catalog.Snapshot) (out []string) {
	for _, i := range s.Service("web").Instances {
		role := i.Server
		if i.Backup {
			role += " backup"
		}
		out = append(out, role)
	}
	return out
}

func haveRoles(want ...string) func(catalog.Snapshot) bool {
	return func(s catalog.Snapshot) bool { return s.Service("web").Known && slices.Equal(roles(s), want) }
}

func TestDatacenters_InstancesOfTheOthers_AreBackups(t *testing.T) {
	d := startTwo(t)
	d.register("a")
	d.await("the first one's", haveRoles("a"))
	d.inOther("a", func(r *api.AgentServiceRegistration) { r.Address = "10.0.0.2" })
	s := d.await("both under one ID", haveRoles("a", "a.dc2 backup"))
	if i := s.Service("web").Instances[1]; i.ID != "a.dc2" || i.Addr.String() != "10.0.0.2:80" {
		t.Errorf("got %+v, want ID a.dc2 at its own address", i)
	}
	d.inOther("b", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"backup": "true"} })
	d.await("a backup of dc2", haveRoles("a", "a.dc2 backup", "b.dc2 backup"))
	d.register("b.dc2") // whose name an instance of dc2 has
	s = d.await("the first one's instead", haveRoles("a", "a.dc2 backup", "b.dc2"))
	if !leavesOut("b.dc2", "another datacenter")(s) {
		t.Errorf("got %+v, want the one of dc2 left out", s.Service("web").Rejected)
	}
	if got := d.OfOthers("web"); len(got) != 1 || !got[[2]string{"a.dc2", lab.ConsulNode}] {
		t.Errorf("of others: got %v, want the one of dc2 that is used", got)
	}
	d.inOther("a", func(r *api.AgentServiceRegistration) {
		r.Check = &api.AgentServiceCheck{Name: "ttl", TTL: "1h", Status: "critical"}
	})
	d.await("check of dc2's", func(s catalog.Snapshot) bool { return s.Service("web").Output("a.dc2", lab.ConsulNode) == "ttl" })
	d.deregister("a")
	d.deregister("b.dc2")
	d.await("dc2's alone", haveRoles("a.dc2 backup", "b.dc2 backup"))
}

func TestDatacenters_OneDoesNotAnswer_OthersGoOn(t *testing.T) {
	d := startTwo(t)
	d.register("a")
	d.inOther("b")
	d.await("both", haveRoles("a", "b.dc2 backup"))
	d.fakes["dc2"].Break(consultest.NoLeader())
	d.fakes["dc2"].Touch("web") // for the query that is blocked
	h := d.awaitHealth("error of dc2", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), `service "web" in datacenter "dc2"`) {
		t.Errorf("got %v, want the datacenter named", h.Err)
	}
	d.register("c")
	d.await("the new one, and what is known of dc2", haveRoles("a", "b.dc2 backup", "c"))
	d.fakes["dc2"].Mend()
	d.awaitHealth("answer of dc2", func(h catalog.SourceHealth) bool { return h.Err == nil })
	d.fakes["dc1"].Break(consultest.NoLeader())
	d.fakes["dc1"].Touch("web")
	d.awaitHealth("error of dc1", func(h catalog.SourceHealth) bool { return h.Err != nil })
	d.inOther("d")
	d.await("the new one, and what is known of dc1", haveRoles("a", "b.dc2 backup", "c", "d.dc2 backup"))
}

func TestDatacenters_OtherSilentAtStart_WaitedForBounded(t *testing.T) {
	d := startTwo(t, consul.Service{Name: "other"})
	d.register("a")
	d.fakes["dc2"].Break(consultest.NoLeader())
	d.SetOtherWait(500 * time.Millisecond) // of the watches that begin now
	began := time.Now()
	if err := d.SetServices([]consul.Service{bothDatacenters}); err != nil {
		t.Fatal(err)
	}
	d.await("dc1's alone", haveRoles("a"))
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("known after %v, before dc2 had its time", took)
	}
	if h := d.Health("web"); h.Err == nil || !strings.Contains(h.Err.Error(), "dc2") {
		t.Errorf("got %v, want the error of dc2", h.Err)
	}
	d.fakes["dc2"].Mend()
	d.inOther("b")
	d.await("dc2's when it answers", haveRoles("a", "b.dc2 backup"))
}

func TestDatacenters_FirstSilentAtStart_NothingKnown(t *testing.T) {
	d := startTwo(t, consul.Service{Name: "other"})
	d.inOther("b")
	d.fakes["dc1"].Break(consultest.NoLeader())
	d.SetOtherWait(50 * time.Millisecond)
	if err := d.SetServices([]consul.Service{bothDatacenters}); err != nil {
		t.Fatal(err)
	}
	d.awaitHealth("error of dc1", func(h catalog.SourceHealth) bool { return h.Err != nil && strings.Contains(h.Err.Error(), "dc1") })
	time.Sleep(200 * time.Millisecond)
	if all := d.Snapshot().Services(); len(all) > 0 {
		t.Errorf("got %+v, want nothing known: all of dc1 would seem gone", all)
	}
	d.fakes["dc1"].Mend()
	d.await("both", haveRoles("b.dc2 backup"))
}

func TestDatacenters_SettingsChange_KnownInstancesStay(t *testing.T) {
	d := startTwo(t, consul.Service{Name: "web"})
	d.register("a")
	d.await("the agent's own", haveRoles("a"))
	d.inOther("b")
	d.fakes["dc2"].Break(consultest.NoLeader())
	d.SetOtherWait(deadline)
	if err := d.SetServices([]consul.Service{bothDatacenters}); err != nil {
		t.Fatal(err)
	}
	for over := time.Now().Add(deadline); !slices.ContainsFunc(d.fakes["dc1"].Requests(), func(r string) bool {
		return strings.Contains(r, "dc=dc1") && strings.Contains(r, "index=") // the one after the first answer
	}); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(over) {
			t.Fatal("no answer of dc1")
		}
	}
	if !haveRoles("a")(d.Snapshot()) {
		t.Errorf("while dc2 is awaited: got %q, want what was known", roles(d.Snapshot()))
	}
	d.fakes["dc2"].Mend()
	d.await("both", haveRoles("a", "b.dc2 backup"))
	if err := d.SetServices([]consul.Service{{Name: "web", Datacenters: []string{"dc2"}}}); err != nil {
		t.Fatal(err)
	}
	d.await("dc2's, which are first now", haveRoles("b"))
}

// Both watches that stay get the answers that they had.
func TestDatacenters_OneIsTakenFromTheList_ItsInstancesGo(t *testing.T) {
	d := startTwo(t, consul.Service{Name: "web", Datacenters: []string{"dc1", "dc3", "dc2"}})
	d.register("a")
	d.inOther("b")
	(&watched{t: t, agent: d.third}).register("c")
	d.await("all", haveRoles("a", "b.dc2 backup", "c.dc3 backup"))
	if err := d.SetServices([]consul.Service{bothDatacenters}); err != nil {
		t.Fatal(err)
	}
	d.await("those of the two that stay", haveRoles("a", "b.dc2 backup"))
}

// The manual failover: dc1's Consul is away as well.
func TestDatacenters_OrderChanges_KnownInstancesChangeRoles(t *testing.T) {
	d := startTwo(t)
	d.register("a")
	d.inOther("b")
	d.inOther("c", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"backup": "true"} })
	at := d.await("both", haveRoles("a", "b.dc2 backup", "c.dc2 backup")).Service("web").Index
	for _, fake := range d.fakes {
		fake.Break(consultest.NoLeader())
	}
	if err := d.SetServices([]consul.Service{{Name: "web", Datacenters: []string{"dc2", "dc1"}}}); err != nil {
		t.Fatal(err)
	}
	for _, datacenter := range []string{"", "dc1", "dc2"} {
		if got, _ := d.Index("web", datacenter, at); got != 0 {
			t.Errorf("answer of the old order: got index %d of datacenter %q, want 0: it has other IDs", got, datacenter)
		}
	}
	later := d.await("new roles", haveRoles("a.dc1 backup", "b", "c backup")).Service("web").Index
	for _, datacenter := range []string{"dc1", "dc2"} {
		if got, _ := d.Index("web", datacenter, later); got == 0 {
			t.Errorf("answer of the new order: got no index of datacenter %q", datacenter)
		}
	}
	for _, fake := range d.fakes {
		fake.Mend()
	}
	d.deregister("a")
	d.await("the answers go on", haveRoles("b", "c backup"))
}

// An index of before is of no answer any more: without a new one no drain would be
// acknowledged.
func TestDatacenters_OneWithoutInstancesGoes_LoopLearnsNewIndex(t *testing.T) {
	d := startTwo(t)
	d.register("a")
	d.await("the first one's", haveRoles("a"))
	select {
	case <-d.Changed(): // by the answers until now
	default:
	}
	if err := d.SetServices([]consul.Service{{Name: "web", Datacenters: []string{"dc1"}}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Changed():
	case <-time.After(5 * time.Second):
		t.Fatal("no wake")
	}
	if got, watched := d.Index("web", "dc1", d.Snapshot().Service("web").Index); got == 0 || !watched {
		t.Errorf("got index %d, %v, want that of dc1", got, watched)
	}
}

// withoutAgentRead is an agent that does not say who it is. The catalog may.
func withoutAgentRead(datacenter string) *func(http.ResponseWriter, *http.Request) bool {
	answer := func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/v1/agent/self":
			http.Error(w, "Permission denied", http.StatusForbidden)
		case "/v1/agent/checks":
			_, _ = w.Write([]byte(`{"c": {"Node": "lab", "CheckID": "c"}}`))
		case "/v1/catalog/node/lab":
			if datacenter == "" {
				_, _ = w.Write([]byte("null"))
				return true
			}
			_, _ = fmt.Fprintf(w, `{"Node": {"Node": "lab", "Datacenter": %q}}`, datacenter)
		default:
			return false
		}
		return true
	}
	return &answer
}

// Nodes of two datacenters may have one name, and HAProxy would send requests to ports of
// its own machine.
func TestDatacenters_LoopbackOfSameNodeName_IsLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		own  *func(http.ResponseWriter, *http.Request) bool
		want []string
		why  string
	}{
		"with agent:read":                {nil, []string{"far.dc2 backup", "own"}, `in datacenter "dc1"`},
		"by the catalog":                 {withoutAgentRead("dc1"), []string{"far.dc2 backup", "own"}, `in datacenter "dc1"`},
		"with no datacenter of the node": {withoutAgentRead(""), []string{"far.dc2 backup"}, "datacenter of Consul's agent is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			d := startTwo(t)
			d.own.Store(c.own)
			d.register("own", onLoopback)
			d.inOther("near", onLoopback, func(r *api.AgentServiceRegistration) { r.Port = 22 })
			d.inOther("far")
			s := d.await("those that may be used", func(s catalog.Snapshot) bool {
				return haveRoles(c.want...)(s) && leavesOut("near.dc2", c.why)(s)
			})
			if len(c.want) == 1 && !leavesOut("own", c.why)(s) {
				t.Errorf("rejected = %+v, want own for its unknown datacenter", s.Service("web").Rejected)
			}
		})
	}
}

// Indexes of two datacenters have nothing to do with each other.
func TestDatacenters_Index_OfEachAnswer(t *testing.T) {
	d := startTwo(t)
	for range 50 {
		d.fakes["dc2"].Touch("web") // so that its indexes are higher
	}
	d.register("a")
	d.inOther("b")
	s := d.await("both", haveRoles("a", "b.dc2 backup"))
	now := func(client *api.Client) uint64 {
		_, meta, err := client.Health().Service("web", "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return meta.LastIndex
	}
	at := s.Service("web").Index
	for _, c := range []struct {
		datacenter string
		client     *api.Client
	}{{"", d.agent}, {"dc1", d.agent}, {"dc2", d.other}} {
		if got, watched := d.Index("web", c.datacenter, at); !watched || got != now(c.client) {
			t.Errorf("datacenter %q: got %d, %v, want %d", c.datacenter, got, watched, now(c.client))
		}
	}
	if _, watched := d.Index("web", "dc3", at); watched {
		t.Error("dc3 is watched")
	}
	before := now(d.other)
	d.inOther("c")
	later := d.await("one more", haveRoles("a", "b.dc2 backup", "c.dc2 backup")).Service("web").Index
	if got, _ := d.Index("web", "dc2", at); got != before {
		t.Errorf("of the answer before: got %d, want %d", got, before)
	}
	if got, _ := d.Index("web", "dc2", later); got != now(d.other) {
		t.Errorf("of the new answer: got %d, want %d", got, now(d.other))
	}
	if got, _ := d.Index("web", "dc2", 1<<40); got != 0 {
		t.Errorf("of no answer: got %d, want 0", got)
	}
}

// zoned is an agent whose node has a zone, or none, and entries on nodes with zones.
func zoned(t *testing.T, own string, nodes ...string) *httptest.Server {
	entries := []any{}
	for i, zone := range nodes {
		meta := map[string]string{"rack": "1"}
		if zone != "" {
			meta["zone"] = zone
		}
		entries = append(entries, map[string]any{
			"Node":    map[string]any{"Node": fmt.Sprintf("n%d", i), "Meta": meta},
			"Service": map[string]any{"ID": fmt.Sprintf("s%d", i), "Address": "10.0.0.1", "Port": 80 + i},
		})
	}
	mux := http.NewServeMux()
	reply := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("index") {
				<-r.Context().Done()
				return
			}
			w.Header().Set("X-Consul-Index", "7")
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-KnownLeader", "true")
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	if own == "denied" {
		mux.HandleFunc("/v1/agent/self", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Permission denied", http.StatusForbidden) })
	}
	mux.HandleFunc("/v1/agent/{what}", reply(map[string]any{"Meta": map[string]string{"zone": own}}))
	mux.HandleFunc("/v1/agent/checks", reply(map[string]any{"c": map[string]any{"Node": "lb", "CheckID": "c"}}))
	mux.HandleFunc("/v1/catalog/node/lb", reply(map[string]any{"Node": map[string]any{"Node": "lb", "Meta": map[string]string{"zone": "eu-1a"}}}))
	mux.HandleFunc("/v1/health/service/web", reply(entries))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server
}

func TestPreferZone_OtherZones_AreBackups(t *testing.T) {
	for _, c := range []struct {
		name, own string
		want      []string
	}{
		{"by the agent", "eu-1a", []string{"s0", "s1 backup", "s2 backup"}},
		{"of another zone", "eu-1b", []string{"s0 backup", "s1", "s2 backup"}},
		{"no zone of its own", "", []string{"s0", "s1", "s2"}},
		{"by the catalog, without agent:read", "denied", []string{"s0", "s1 backup", "s2 backup"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := strings.TrimPrefix(zoned(t, c.own, "eu-1a", "eu-1b", "").URL, "http://")
			w := start(t, at, consul.Options{}, consul.Service{Name: "web", PreferZone: true})
			w.await("roles by zone", haveRoles(c.want...))
		})
	}
	t.Run("not asked for", func(t *testing.T) {
		w := start(t, strings.TrimPrefix(zoned(t, "eu-1a", "eu-1a", "eu-1b").URL, "http://"), consul.Options{})
		w.await("no backup", haveRoles("s0", "s1"))
	})
}

// Without a zone all instances serve. One that was known stays.
func TestPreferZone_AgentDoesNotSayItsZone_ServiceIsKnown(t *testing.T) {
	var agent atomic.Pointer[map[string]string] // its answers by path
	changed := make(chan struct{})
	entries := zoned(t, "eu-1a", "eu-1a", "eu-1b").Config.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said, isSaid := (*agent.Load())[r.URL.Path]
		switch {
		case isSaid && said == "":
			http.Error(w, "Permission denied", http.StatusForbidden)
		case isSaid:
			_, _ = w.Write([]byte(said))
		default:
			if r.URL.Query().Has("index") {
				select {
				case <-changed:
				case <-r.Context().Done():
					return
				}
				r = r.Clone(r.Context())
				r.URL.RawQuery = "" // as after wait
			}
			entries.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	t.Cleanup(front.CloseClientConnections)
	denied := map[string]string{"/v1/agent/self": "", "/v1/agent/checks": "{}"}
	service := consul.Service{Name: "web", PreferZone: true}
	agent.Store(&denied)
	w := start(t, strings.TrimPrefix(front.URL, "http://"), consul.Options{}, service)
	w.await("all without roles", haveRoles("s0", "s1"))
	if h := w.Health("web"); h.Err != nil {
		t.Errorf("health: %v, want no error of the query", h.Err)
	}
	agent.Store(&map[string]string{"/v1/agent/self": "", "/v1/catalog/node/lb": "null"}) // the agent is not in the catalog yet
	if err := w.SetServices([]consul.Service{{Name: "web", PreferZone: true, MaxInstances: 1}}); err != nil {
		t.Fatal(err)
	}
	w.await("one without a role", haveRoles("s0"))
	agent.Store(&map[string]string{})
	if err := w.SetServices([]consul.Service{service}); err != nil {
		t.Fatal(err)
	}
	w.await("roles by zone", haveRoles("s0", "s1 backup"))

	agent.Store(&denied)
	if err := w.SetServices([]consul.Service{{Name: "web", PreferZone: true, MaxInstances: 1}}); err != nil {
		t.Fatal(err)
	}
	w.await("one", haveRoles("s0"))
	if err := w.SetServices([]consul.Service{service}); err != nil {
		t.Fatal(err)
	}
	w.await("roles by the last zone", haveRoles("s0", "s1 backup"))
	agent.Store(&map[string]string{"/v1/agent/self": `{"Meta": {"zone": "eu-1b"}}`})
	close(changed)
	w.await("roles by the zone that is known again", haveRoles("s0 backup", "s1"))
}

package consultest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// nodeName is the node that an agent's own registrations stand on, in the fake
// and in the real one.
const nodeName = lab.ConsulNode

// Fake is the part of Consul's HTTP API that this project uses: one agent with
// a catalog, blocking queries and an index, and faults on request.
type Fake struct {
	server *httptest.Server
	done   chan struct{} // closed when the fake ends, to release blocked queries

	mu        sync.Mutex
	index     uint64            // the catalog's, raised by every change
	nodes     map[string]string // address by node
	services  map[key]*service
	store     store
	forgotten map[string]uint64 // index at which a service lost its last instance
	checks    map[key]*api.HealthCheck
	changed   chan struct{} // closed and replaced by every change
	fault     Fault
	requests  []string // path?query of each, in order
	tokens    []string // the token of each, in order
}

// key is what is unique in the catalog: an ID on a node.
type key struct{ node, id string }

type service struct {
	api.AgentService
	index uint64 // of the last change to it or its checks
}

// NewFake starts a fake on a free port of 127.0.0.1. It ends with the test.
func NewFake(t testing.TB) *Fake {
	t.Helper()
	f := &Fake{done: make(chan struct{}), changed: make(chan struct{})}
	f.clear()
	f.index = 10
	f.store = store{keys: map[string]*kvEntry{}, sessions: map[string]bool{}}
	f.server = httptest.NewServer(f)
	t.Cleanup(func() {
		close(f.done)
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// Address is host:port of its HTTP API.
func (f *Fake) Address() string { return strings.TrimPrefix(f.server.URL, "http://") }

// Register writes a body of /v1/catalog/register to the catalog.
func (f *Fake) Register(t *testing.T, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, f.server.URL+"/v1/catalog/register", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // nothing of it is read
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("register %s: %s", body, resp.Status)
	}
}

// Forget loses everything, starts the index again from the lowest and closes
// all connections, as a development agent does that has been restarted. It
// takes new ones at once: a blocked query that comes again with its old index
// blocks for long, as in a real one.
func (f *Fake) Forget() {
	f.mu.Lock()
	f.clear()
	f.index = 1
	f.mu.Unlock()
	f.server.CloseClientConnections()
}

func (f *Fake) clear() {
	f.nodes = map[string]string{nodeName: "127.0.0.1"}
	f.services = make(map[key]*service)
	f.forgotten = make(map[string]uint64)
	f.checks = map[key]*api.HealthCheck{
		{nodeName, "serfHealth"}: {Node: nodeName, CheckID: "serfHealth", Name: "Serf Health Status", Status: api.HealthPassing},
	}
}

// Touch raises the index of a service and changes nothing that anyone would
// want to know, as the output of a check does.
func (f *Fake) Touch(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touch(name)
}

// Requests returns path and query of all requests so far, in order.
func (f *Fake) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

// Tokens returns the ACL token of each request so far, "" where it had none.
func (f *Fake) Tokens() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.tokens...)
}

// ServeHTTP answers as Consul does, or as the fault says.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.URL.RequestURI())
	f.tokens = append(f.tokens, r.Header.Get("X-Consul-Token"))
	fault := f.fault
	f.mu.Unlock()
	if fault.before(f, w, r) {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/agent/service/register", f.register)
	mux.HandleFunc("PUT /v1/agent/service/deregister/{id}", f.deregister)
	mux.HandleFunc("PUT /v1/agent/service/maintenance/{id}", f.serviceMaintenance)
	mux.HandleFunc("PUT /v1/agent/maintenance", f.nodeMaintenance)
	mux.HandleFunc("PUT /v1/agent/check/update/{id}", f.updateCheck)
	mux.HandleFunc("GET /v1/agent/service/{id}", f.agentService)
	mux.HandleFunc("GET /v1/agent/self", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"Config": map[string]any{"NodeName": nodeName, "Datacenter": "dc1"}})
	})
	mux.HandleFunc("PUT /v1/catalog/register", f.catalogRegister)
	mux.HandleFunc("GET /v1/health/service/{name}", f.health)
	mux.HandleFunc("GET /v1/catalog/services", f.names)
	mux.HandleFunc("GET /v1/status/leader", func(w http.ResponseWriter, _ *http.Request) { reply(w, "127.0.0.1:8300") })
	mux.HandleFunc("GET /v1/kv/{key...}", f.readKV)
	mux.HandleFunc("PUT /v1/kv/{key...}", f.writeKV)
	mux.HandleFunc("DELETE /v1/kv/{key...}", f.deleteKV)
	mux.HandleFunc("PUT /v1/session/{what}", f.session)
	mux.HandleFunc("PUT /v1/session/{what}/{id}", f.session)
	mux.ServeHTTP(w, r)
}

// touch raises the index for a change to the service of that name, and lets
// the queries that wait for one go. The caller holds mu.
func (f *Fake) touch(name string) {
	f.index++
	for _, s := range f.services {
		if s.Service == name {
			s.index = f.index
		}
	}
	f.wake()
}

func (f *Fake) touchNode(node string) {
	f.index++
	for k, s := range f.services {
		if k.node == node {
			s.index = f.index
		}
	}
	f.wake()
}

func (f *Fake) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		http.Error(w, "Request decode failed: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

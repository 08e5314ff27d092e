package discover_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/services/internal/memnet"
)

// consul speaks the one endpoint that is asked, with blocking queries, as
// Consul 1.22 does. It lives in memory, so that a test's clock may be
// synctest's.
type consul struct {
	mu      sync.Mutex
	index   uint64
	entries []*api.ServiceEntry
	broken  bool
	cuts    int           // number of blocked queries that lose their connection at the next change
	changed chan struct{} // closed at each change
	queries []query
}

// query is one that came.
type query struct {
	at      time.Time
	index   uint64
	passing bool
}

func newConsul(t *testing.T) (*consul, *api.Config) {
	t.Helper()
	c := &consul{index: 10, changed: make(chan struct{})}
	listener := memnet.Listen()
	server := httptest.NewUnstartedServer(c)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return c, &api.Config{Address: "consul:8500", Scheme: "http", Transport: &http.Transport{DialContext: listener.Dial}}
}

func (c *consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/health/service/lb" {
		http.NotFound(w, r)
		return
	}
	c.note(r.URL.Query())
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	asked, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		body, index, broken, changed := c.now()
		if broken {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
			return
		}
		if asked == 0 || index > asked {
			answer(w, body, index)
			return
		}
		select {
		case <-changed:
			if c.cut() {
				panic(http.ErrAbortHandler)
			}
		case <-timeout.C:
			answer(w, body, index)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func answer(w http.ResponseWriter, body []byte, index uint64) {
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	_, _ = w.Write(body)
}

func (c *consul) note(q url.Values) {
	c.mu.Lock()
	defer c.mu.Unlock()
	index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	c.queries = append(c.queries, query{at: time.Now(), index: index, passing: q.Get("passing") == "1"})
}

func (c *consul) now() (body []byte, index uint64, broken bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries := c.entries
	if entries == nil {
		entries = []*api.ServiceEntry{}
	}
	body, _ = json.Marshal(entries)
	return body, c.index, c.broken, c.changed
}

// change changes the state, and raises the index.
func (c *consul) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	do()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *consul) cut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts--
	return c.cuts >= 0
}

// set makes these the instances that pass.
func (c *consul) set(entries ...*api.ServiceEntry) { c.change(func() { c.entries = entries }) }

func (c *consul) asked() []query {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]query(nil), c.queries...)
}

// at is an instance that passes.
func at(id, address string, port int) *api.ServiceEntry {
	return &api.ServiceEntry{
		Node:    &api.Node{Node: "node0", Address: "10.0.0.9"},
		Service: &api.AgentService{ID: id, Service: "lb", Address: address, Port: port},
	}
}

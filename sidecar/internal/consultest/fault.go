package consultest

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Fault is one way to fail. The zero value is none.
type Fault struct {
	name string
	// instead answers in place of Consul; nil to answer as Consul does.
	instead func(f *Fake, w http.ResponseWriter, r *http.Request)
	// header changes the headers of a health answer.
	header      map[string]string
	everywhere  bool // requests other than health queries fail too
	blockedOnly bool // only queries with an index fail
}

// String names the fault.
func (f Fault) String() string { return f.name }

// Break makes the fake fail from now on. Queries that are blocked fail too,
// now: that is what they see when an agent dies or loses its servers.
func (f *Fake) Break(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
	f.wake()
}

// Mend ends the fault. Queries that hang stay so.
func (f *Fake) Mend() { f.Break(Fault{}) }

// before answers in place of Consul, where the fault says so.
func (f Fault) before(fake *Fake, w http.ResponseWriter, r *http.Request) bool {
	switch {
	case f.instead == nil,
		!isHealth(r) && !f.everywhere,
		!r.URL.Query().Has("index") && f.blockedOnly:
		return false
	}
	f.instead(fake, w, r)
	return true
}

func isHealth(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, healthPath)
}

const healthPath = "/v1/health/service/"

// NoLeader is what an agent answers while the servers elect: status 500.
func NoLeader() Fault {
	return Fault{name: "no leader", everywhere: true, instead: func(_ *Fake, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
	}}
}

// Denied is what an agent answers to an ACL token that it does not know.
func Denied() Fault {
	return Fault{name: "denied", everywhere: true, instead: func(_ *Fake, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "ACL not found", http.StatusForbidden)
	}}
}

// Close closes the connection instead of answering.
func Close() Fault {
	return Fault{name: "close", everywhere: true, instead: func(*Fake, http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}}
}

// Body answers a health query with good headers and this body: an empty list,
// a list cut short, or garbage.
func Body(body string) Fault {
	return Fault{name: fmt.Sprintf("body %.20q", body), instead: func(f *Fake, w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		setHeaders(w.Header(), f.serviceIndex(strings.TrimPrefix(r.URL.Path, healthPath))+1, f.fault)
		f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}}
}

// Stale makes health answers admit how old they are. A query for a consistent
// answer gets a fresh one.
func Stale(by time.Duration) Fault {
	return Fault{name: "stale", header: map[string]string{"X-Consul-LastContact": fmt.Sprint(by.Milliseconds())}}
}

// Header replaces a header of health answers.
func Header(name, value string) Fault {
	return Fault{name: name + ": " + value, header: map[string]string{name: value}}
}

// StreamReset is the empty list at index 1 that a real agent answers to a
// blocked query whose wait runs out while its stream starts afresh. A query
// that does not block goes past the stream, and gets the truth.
func StreamReset() Fault {
	return Fault{name: "stream reset", blockedOnly: true, instead: func(_ *Fake, w http.ResponseWriter, _ *http.Request) {
		streamEmpty(w, 1)
	}}
}

// StreamLost is like StreamReset, but the empty list has an index that rises.
func StreamLost() Fault {
	return Fault{name: "stream lost", blockedOnly: true, instead: func(f *Fake, w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		index := f.index + 1
		f.mu.Unlock()
		streamEmpty(w, index)
	}}
}

func streamEmpty(w http.ResponseWriter, index uint64) {
	setHeaders(w.Header(), index, Fault{header: map[string]string{
		"X-Consul-KnownLeader":   "false",
		"X-Consul-Query-Backend": api.QueryBackendStreaming,
	}})
	reply(w, []api.ServiceEntry{})
}

// Package flight keeps what the sidecar last decided, and what from, so that a report of
// an error is one file, whose decisions can be made again.
//
// Its invariants: what it keeps is bounded; it changes nothing that it is given, and the
// loop waits for nothing in it but a lock that is held for no I/O. It imports plan and
// catalog only. cli imports it.
package flight

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// The bounds of what is kept: decisions, and the servers and instances in all of them. A
// server or an instance takes some 250 bytes.
const (
	maxDecisions = 1000
	maxItems     = 50_000
)

// Decision is one decision for one backend, with all that it was made from.
type Decision struct {
	At       time.Time     `json:"at"`
	Repeated int           `json:"repeated,omitempty"` // how many before it, from the same answer of Consul, took no step either
	Service  plan.Service  `json:"service"`
	HAProxy  plan.Observed `json:"haproxy"` // of the backend, with what the sidecar remembers of it
	Consul   Answer        `json:"consul"`
	Outcome  plan.Outcome  `json:"outcome"`
}

// Answer is Consul's, as far as decisions depend on it.
type Answer struct {
	Known     bool               `json:"known"`
	Index     uint64             `json:"index"`
	Instances []catalog.Instance `json:"instances"`
	Untagged  []catalog.Instance `json:"untagged,omitempty"`
}

// Recorder keeps the newest decisions. Its methods may be called by any number of
// goroutines.
type Recorder struct {
	now func() time.Time

	mu    sync.Mutex
	kept  []*Decision          // the oldest first
	items int                  // in kept
	last  map[string]*Decision // by backend
}

// NewRecorder makes an empty one.
func NewRecorder(now func() time.Time) *Recorder {
	return &Recorder{now: now, last: map[string]*Decision{}}
}

// Decided keeps a decision with what it is given, which must not be changed any more. Of
// decisions from one answer of Consul that take no step, one after another, the last stays.
func (r *Recorder) Decided(s plan.Service, o plan.Observed, want catalog.Service, made *plan.Decision) {
	o = of(s.Backend, o)
	d := &Decision{
		At: r.now(), Service: s, HAProxy: o, Outcome: made.Outcome(o),
		Consul: Answer{Known: want.Known, Index: want.Index, Instances: want.Instances, Untagged: want.Untagged},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.last[s.Backend]; was != nil && was.isIdle() && d.isIdle() && was.Consul.isSame(d.Consul) {
		d.Repeated = was.Repeated + 1
		r.drop(slices.Index(r.kept, was))
	}
	r.kept, r.last[s.Backend] = append(r.kept, d), d
	for r.items += d.size(); len(r.kept) > 1 && (len(r.kept) > maxDecisions || r.items > maxItems); {
		r.drop(0)
	}
}

// Decisions gives those that are kept, the oldest first. They must not be changed.
func (r *Recorder) Decisions() []*Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

func (r *Recorder) drop(i int) {
	d := r.kept[i]
	if r.items -= d.size(); r.last[d.Service.Backend] == d {
		delete(r.last, d.Service.Backend)
	}
	r.kept = slices.Delete(r.kept, i, i+1)
}

func (d *Decision) isIdle() bool {
	return len(d.Outcome.Steps) == 0 && d.Outcome.Reload == plan.NoReload
}

func (d *Decision) size() int {
	b := d.HAProxy.Backends[d.Service.Backend]
	return len(b.Servers) + len(b.Left) + len(d.Consul.Instances) + len(d.Consul.Untagged) + len(d.Outcome.Steps) + len(d.Outcome.Waiting)
}

// isSame reports whether both are one answer, without looking at what is in it.
func (a Answer) isSame(o Answer) bool {
	return a.Known == o.Known && a.Index == o.Index && len(a.Instances) == len(o.Instances) &&
		(len(a.Instances) == 0 || &a.Instances[0] == &o.Instances[0])
}

// of is what of an observation concerns one backend.
func of(backend string, o plan.Observed) plan.Observed {
	b := o.Backends[backend]
	listed := map[netip.AddrPort]string(nil)
	if o.Listed != nil {
		listed = map[netip.AddrPort]string{}
		for i := range b.Servers {
			if service, found := o.Listed[b.Servers[i].Addr]; found {
				listed[b.Servers[i].Addr] = service
			}
		}
	}
	o.Listed = listed
	o.Backends = only(o.Backends, backend)
	o.Flapping, o.Drained, o.Last = only(o.Flapping, backend), only(o.Drained, backend), only(o.Last, backend)
	o.Guards, o.Absent = only(o.Guards, backend), only(o.Absent, backend)
	return o
}

// only is the map with one key, or nil if it is not in it.
func only[V any](m map[string]V, key string) map[string]V {
	if v, found := m[key]; found {
		return map[string]V{key: v}
	}
	return nil
}

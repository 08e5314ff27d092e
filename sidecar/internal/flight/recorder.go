// Package flight keeps what the sidecar last decided, and what from, so that a report of
// an error is one file, whose decisions can be made again.
//
// Its invariants: what it keeps is bounded; it changes nothing that it is given, and the
// loop waits for nothing in it but a lock that is held for no I/O.
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
// server or an instance takes some 250 bytes; one with long names counts several times.
const (
	maxDecisions = 1000
	maxItems     = 30_000
	itemBytes    = 256 // of names, beyond which an item counts once more
)

// Decision is one decision for one backend, with all that it was made from.
type Decision struct {
	At       time.Time     `json:"at"`
	Repeated int           `json:"repeated,omitempty"` // how many before it, from the same answer of Consul, came to the same
	Service  plan.Service  `json:"service"`
	HAProxy  plan.Observed `json:"haproxy"` // of the backend, with what the sidecar remembers of it
	Consul   Answer        `json:"consul"`
	Outcome  plan.Outcome  `json:"outcome"`

	items int // that it counts
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

	mu       sync.Mutex
	kept     []*Decision // the oldest first
	items    int         // in kept
	backends map[string]*share
}

// share is what a backend has of what is kept.
type share struct {
	last     *Decision
	n, items int
}

// NewRecorder makes an empty one.
func NewRecorder(now func() time.Time) *Recorder {
	return &Recorder{now: now, backends: map[string]*share{}}
}

// Decided keeps a decision with what it is given, which must not be changed any more. Of
// decisions from one answer of Consul that come to the same, one after another, the last
// stays. What is too much goes from the backend that has most, the oldest first.
func (r *Recorder) Decided(s plan.Service, o plan.Observed, want catalog.Service, made *plan.Decision) {
	o = of(s.Backend, o)
	d := &Decision{
		At: r.now(), Service: s, HAProxy: o, Outcome: made.Outcome(o),
		Consul: Answer{Known: want.Known, Index: want.Index, Instances: want.Instances, Untagged: want.Untagged},
	}
	d.items = d.size()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.backends[s.Backend]
	if b == nil {
		b = &share{}
	}
	if was := b.last; was != nil && was.Consul.isSame(d.Consul) && (was.isIdle() && d.isIdle() || IsSame(was.Outcome, d.Outcome)) {
		d.Repeated = was.Repeated + 1
		r.drop(slices.Index(r.kept, was))
	}
	r.backends[s.Backend] = b
	r.kept, b.last = append(r.kept, d), d
	r.items, b.n, b.items = r.items+d.items, b.n+1, b.items+d.items
	for len(r.kept) > 1 && (len(r.kept) > maxDecisions || r.items > maxItems) {
		r.drop(r.surplus())
	}
}

// surplus returns the decision that is to go first.
func (r *Recorder) surplus() int {
	most, of := "", &share{n: 1}
	for backend, b := range r.backends {
		if b.n > 1 && (b.items > of.items || b.items == of.items && backend < most) {
			most, of = backend, b
		}
	}
	if most == "" {
		return 0 // each has one
	}
	return slices.IndexFunc(r.kept, func(d *Decision) bool { return d.Service.Backend == most })
}

// Decisions returns those that are kept, the oldest first. They must not be changed.
func (r *Recorder) Decisions() []*Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

func (r *Recorder) drop(i int) {
	d := r.kept[i]
	b := r.backends[d.Service.Backend]
	r.items, b.n, b.items = r.items-d.items, b.n-1, b.items-d.items
	if b.last == d {
		b.last = nil
	}
	if b.n == 0 {
		delete(r.backends, d.Service.Backend)
	}
	r.kept = slices.Delete(r.kept, i, i+1)
}

func (d *Decision) isIdle() bool {
	return len(d.Outcome.Steps) == 0 && d.Outcome.Reload == plan.NoReload
}

func (d *Decision) size() int {
	b := d.HAProxy.Backends[d.Service.Backend]
	items, bytes := len(b.Servers)+len(b.Left)+len(d.Consul.Instances)+len(d.Consul.Untagged)+len(d.Outcome.Steps)+len(d.Outcome.Waiting), 0
	for i := range b.Servers {
		bytes += len(b.Servers[i].Name) + len(b.Servers[i].Check.Words)
	}
	for _, all := range [][]catalog.Instance{d.Consul.Instances, d.Consul.Untagged} {
		for i := range all {
			bytes += len(all[i].ID) + len(all[i].Node) + len(all[i].Version)
		}
	}
	for i := range d.Outcome.Steps {
		bytes += len(d.Outcome.Steps[i].Instance) + len(d.Outcome.Steps[i].Options)
	}
	for i := range d.Outcome.Waiting {
		bytes += len(d.Outcome.Waiting[i].Instance) + len(d.Outcome.Waiting[i].Check.Words)
	}
	return items + bytes/itemBytes
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
	o.Guards, o.Absent, o.Ended = only(o.Guards, backend), only(o.Absent, backend), only(o.Ended, backend)
	o.Refused = only(o.Refused, backend)
	return o
}

// only is the map with one key, or nil if it is not in it.
func only[V any](m map[string]V, key string) map[string]V {
	if v, found := m[key]; found {
		return map[string]V{key: v}
	}
	return nil
}

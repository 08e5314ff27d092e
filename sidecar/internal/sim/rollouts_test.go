package sim

import (
	"cmp"
	"context"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	kv "github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// In some histories the instances of a service are of two versions, and documents in
// Consul's KV store give each its share of the traffic.

const (
	oldVersion = "1.0"
	newVersion = "1.1"
)

// documents is what Consul's KV store has, and how a sidecar comes to read it.
type documents struct {
	away    bool // they cannot be read, though services can
	entries map[string]kv.Entry
}

// overlay is the documents as one sidecar has them, laid over its view of the services.
type overlay struct {
	*rollout.Overlay
	take    func([]kv.Entry, error) // as it follows them
	index   uint64                  // of the last answer, in this time of Consul's life
	epoch   int
	entries map[string]kv.Entry          // of that
	given   map[string]*rollout.Document // the newest valid one of each service that it was given

	isTaking, isWoken atomic.Bool
}

// newOverlay returns a sidecar one, where there are rollouts.
func (w *world) newOverlay(s *sidecar) *overlay {
	if !w.set.rollouts {
		return nil
	}
	o := &overlay{given: map[string]*rollout.Document{}}
	var backends []rollout.Backend
	for _, svc := range w.set.services {
		backends = append(backends, shared(svc))
	}
	o.Overlay = rollout.NewOverlay(source{s.view}, follower{s}, backends, hclog.NewNullLogger())
	return o
}

// shared is a service as one that may have a rollout.
func shared(svc plan.Service) rollout.Backend {
	b := rollout.Backend{Name: svc.Backend, Service: svc.Name, Warning: svc.Warning}
	if svc.Static || hasAgents(svc) {
		b.Fixed = "shares 0 and 100 only"
	}
	return b
}

// source is what the overlay is laid over.
type source struct{ v *view }

func (s source) Snapshot() catalog.Snapshot {
	s.v.w.mu.Lock()
	defer s.v.w.mu.Unlock()
	return s.v.snap
}

func (s source) Health(backend string) catalog.SourceHealth {
	s.v.w.mu.Lock()
	defer s.v.w.mu.Unlock()
	return s.v.health[backend]
}

func (s source) News(seen uint64, each func(backend string, changed time.Time)) uint64 {
	s.v.w.mu.Lock()
	defer s.v.w.mu.Unlock()
	return s.v.changes.Since(seen, func(backend string) { each(backend, s.v.health[backend].Changed) })
}

func (s source) Changed() <-chan struct{} { return s.v.channel }

// Wake wakes the loop, once the answer is taken.
func (s source) Wake() {
	if o := s.v.s.overlay; o.isTaking.Load() {
		o.isWoken.Store(true)
		return
	}
	s.v.w.mu.Lock()
	defer s.v.w.mu.Unlock()
	for _, svc := range s.v.w.set.services {
		s.v.fresh[svc.Name] = true
	}
	s.v.wake()
}

// follower hands over what is read.
type follower struct{ s *sidecar }

func (f follower) Follow(ctx context.Context, _ string, take func([]kv.Entry, error)) {
	f.s.w.mu.Lock()
	f.s.overlay.take = take
	f.s.w.mu.Unlock()
	<-ctx.Done()
}

// tellDocuments lets the sidecar that runs now read what is there now.
func (c *consul) tellDocuments(lag time.Duration) {
	s, entries, index, epoch := c.w.sidecar, maps.Clone(c.documents.entries), c.index, c.epoch
	if s == nil || s.overlay == nil {
		return
	}
	c.w.after(lag, func() {
		if o := s.overlay; c.up && !c.documents.away && (epoch > o.epoch || epoch == o.epoch && index >= o.index) {
			o.index, o.epoch = index, epoch
			s.reads(entries, nil)
		}
	})
}

// reads gives a sidecar an answer about the documents. The caller holds mu.
func (s *sidecar) reads(entries map[string]kv.Entry, err error) {
	w, o := s.w, s.overlay
	if o == nil || o.take == nil || s.ended || s.dead || s != w.sidecar {
		return
	}
	var all []kv.Entry
	for _, service := range slices.Sorted(maps.Keys(entries)) {
		all = append(all, entries[service])
	}
	o.isTaking.Store(true)
	w.mu.Unlock()
	o.take(all, err)
	w.mu.Lock()
	o.isTaking.Store(false)
	if err != nil {
		s.failed = w.now()
	} else {
		w.note("sidecar reads %d rollouts", len(all))
		s.noteDocuments(entries)
	}
	if o.isWoken.Swap(false) {
		s.view.wake()
	}
}

// noteDocuments notes what the sidecar was given.
func (s *sidecar) noteDocuments(entries map[string]kv.Entry) {
	for _, svc := range s.w.set.services {
		e, has := entries[svc.Name]
		isFirst := s.overlay.entries == nil
		if was := s.overlay.entries[svc.Name]; !isFirst && was.Index == e.Index && string(was.Value) == string(e.Value) {
			continue
		}
		if d, err := rollout.Parse(svc.Name, e.Value); !has || err == nil {
			s.overlay.given[svc.Name] = d
			if !has {
				delete(s.overlay.given, svc.Name)
			}
		}
		s.view.fresh[svc.Name] = true
		s.expects(svc.Name)
	}
	s.overlay.entries = entries
}

// document is the newest of a service. isValid is false if it is none.
func (c *consul) document(service string) (d *rollout.Document, isValid bool) {
	e, has := c.documents.entries[service]
	if !has {
		return nil, true
	}
	d, err := rollout.Parse(service, e.Value)
	return d, err == nil
}

// told is what a query about a service would get now, with the weights of its rollout.
func (w *world) told(svc plan.Service) catalog.Service {
	s := w.consul.answer(svc.Name).Service
	if d, isValid := w.consul.document(svc.Name); w.set.rollouts && isValid {
		return rollout.Lay(shared(svc), s, d, "")
	}
	return s
}

// newRollout: an operator changes the rollout of a service, or makes a mistake.
func (w *world) newRollout() {
	s, value := w.anyService(), ""
	switch w.eventRNG.IntN(6) {
	case 0:
	case 1:
		value = pick(w.eventRNG, `{`, `{"schema":1,"service":"`+s+`","state":"paused","shares":{"1.0":50,"1.1":40}}`, `{"schema":2}`)
	default:
		share := pick(w.eventRNG, 0, 0, 5, 50, 95, 100)
		d := rollout.New(s)
		d.State, d.Shares, d.ModifiedBy = rollout.Paused, map[string]int{oldVersion: 100 - share, newVersion: share}, "operator"
		text, err := d.Encode()
		if err != nil {
			panic(err)
		}
		value = string(text)
	}
	w.writeDocument(s, value)
}

// writeDocument writes one, or deletes it.
func (w *world) writeDocument(service, value string) {
	c := w.consul
	c.index++
	if value == "" {
		delete(c.documents.entries, service)
	} else {
		c.documents.entries[service] = kv.Entry{Key: rollout.Key(service), Value: []byte(value), Index: c.index}
	}
	w.disturb()
	w.note("the rollout of %s: %s", service, cmp.Or(value, "none"))
	c.tellDocuments(time.Duration(w.callRNG.Int64N(int64(w.set.lag) + 1)))
}

// rolloutsAway: services can be read, and the documents cannot.
func (w *world) rolloutsAway() {
	w.note("rollouts cannot be read")
	w.consul.documents.away = true
	if w.sidecar != nil {
		w.sidecar.reads(nil, errAway)
	}
	w.after(w.upTo(10*time.Second), w.rolloutsBack)
}

func (w *world) rolloutsBack() {
	w.consul.documents.away = false
	w.consul.tellDocuments(time.Second)
}

// lastDocuments takes away what is invalid, or leaves fewer instances than are to stay.
func (w *world) lastDocuments() {
	for _, svc := range w.set.services {
		_, isValid := w.consul.document(svc.Name)
		n := 0
		for _, i := range wants(svc, w.told(svc)) {
			n += rank(i.Weight > 0 && !i.Backup)
		}
		if _, has := w.consul.documents.entries[svc.Name]; has && (!isValid || n < max(1, svc.MinServers) || hasAgents(svc)) {
			w.writeDocument(svc.Name, "")
		}
	}
}

// checkShares: what the sidecar acts on has the weights of the newest valid document that
// it was given.
func (w *world) checkShares(s *sidecar, snap catalog.Snapshot) {
	for _, svc := range w.set.services {
		d, told := s.overlay.given[svc.Name], snap.Service(svc.Name)
		switch {
		case !told.Known:
			continue
		case s.overlay.entries == nil:
			w.breach(unknownIsNotEmpty, "instances of %s are used before the rollouts were read", svc.Name)
		}
		weights, count, all := map[string]int{}, map[string]int{}, 0
		own := s.view.snap.Service(svc.Name).Instances
		for _, i := range wants(svc, told) {
			if i.Backup || own[slices.IndexFunc(own, func(x catalog.Instance) bool { return x.ID == i.ID })].Weight == 0 {
				continue // it has no part in a share
			}
			weights[i.Version] += i.Weight
			count[i.Version]++
			all += i.Weight
			if i.ByShare && d == nil {
				w.breach(followsShares, "%s has a weight by a share, and no rollout was given", i.ID)
			}
		}
		if d == nil || all == 0 || shared(svc).Fixed != "" || count[oldVersion] == 0 || count[newVersion] == 0 {
			continue
		}
		for version, share := range d.Shares {
			if has := 100 * float64(weights[version]) / float64(all); math.Abs(has-float64(share)) > 1.5 {
				w.breach(followsShares, "%s %s is to have %d %%, and has %.1f %%", svc.Name, version, share, has)
			}
		}
	}
}

// checkWeight: no server gets another weight than its version's share gives it, and none
// that has no share is taken out before one that has some is up.
func (w *world) checkWeight(s *sidecar, told catalog.Service, st plan.Step) {
	n := slices.IndexFunc(told.Instances, func(i catalog.Instance) bool { return i.ByShare && i.ID == st.Instance })
	if n < 0 || st.Kind != plan.Add && st.Kind != plan.SetWeight || st.Percent {
		return
	}
	if want := told.Instances[n].Weight; st.Weight != want {
		w.breach(followsShares, "%s %s/%s with weight %d, its share gives it %d", st.Kind, st.Backend, st.Server, st.Weight, want)
	}
	hasShare := func(x plan.Server) bool {
		return available(x) && slices.ContainsFunc(told.Instances, func(i catalog.Instance) bool { // of several at one address any
			return i.Weight > 0 && (i.Server == x.Name || i.Addr == x.Addr)
		})
	}
	servers := s.saw.Backends[st.Backend].Servers
	isUp := slices.ContainsFunc(servers, func(x plan.Server) bool { return x.Name == st.Server && available(x) })
	if st.Weight == 0 && isUp && !slices.ContainsFunc(servers, hasShare) {
		w.breach(makeBeforeBreak, "%s %s/%s, and no server is up that has a share", st.Kind, st.Backend, st.Server)
	}
}

// hasNoShare reports whether an instance at an address is of a version without a share: the
// guard may hold a server that was there before it.
func hasNoShare(told catalog.Service, at netip.AddrPort) bool {
	return slices.ContainsFunc(told.Instances, func(i catalog.Instance) bool { return i.Addr == at && i.ByShare && i.Weight == 0 })
}

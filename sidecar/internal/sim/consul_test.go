package sim

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	kv "github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// consul is the truth about who is registered, and how a sidecar comes to hear
// of it: late, from a follower that is behind, or not at all.
type consul struct {
	w        *world
	up       bool // the sidecar has an answer from it
	services map[string]map[string]*registration
	index    uint64
	epoch    int // another one: its data were lost, and its index began again

	documents    documents
	claimedSince map[routeKey]map[string]uint64 // by service, since which index without a break
}

// registration is one service instance in the catalog.
type registration struct {
	of          *node // who made it
	inst        catalog.Instance
	check       catalog.Health
	maintenance bool
	tags        []string
	created     uint64 // Consul's CreateIndex
}

// instance is what a query would get of it.
func (r *registration) instance() catalog.Instance {
	inst := r.inst
	inst.Health = r.check
	if r.maintenance {
		inst.Health = catalog.Maintenance
	}
	return inst
}

func newConsul(w *world) *consul {
	return &consul{w: w, up: true, services: map[string]map[string]*registration{}, index: 1, documents: documents{entries: map[string]kv.Entry{}}, claimedSince: map[routeKey]map[string]uint64{}}
}

// answer is what a query would get now.
func (c *consul) answer(service string) answer {
	s := catalog.Service{Name: service, Known: true, Index: c.index, Claims: c.claims(service)}
	for _, r := range c.services[service] {
		s.Instances = append(s.Instances, r.instance())
	}
	slices.SortFunc(s.Instances, func(x, y catalog.Instance) int { return cmp.Compare(x.Server, y.Server) })
	return answer{s, c.epoch}
}

// snapshot is all that it would answer now.
func (c *consul) snapshot() catalog.Snapshot {
	var all []catalog.Service
	for _, s := range c.w.set.services {
		all = append(all, c.answer(s.Name).Service)
	}
	return catalog.NewSnapshot(all...)
}

// answer is Consul's about one service, at one time of its life.
type answer struct {
	catalog.Service
	epoch int
}

// register adds or replaces a registration.
func (c *consul) register(n *node, check catalog.Health) {
	if c.services[n.service] == nil {
		c.services[n.service] = map[string]*registration{}
	}
	created := c.index + 1
	if was := c.services[n.service][n.id]; was != nil {
		created = was.created
	}
	c.services[n.service][n.id] = &registration{of: n, check: check, tags: n.tags, created: created, inst: catalog.Instance{
		ID: n.id, Node: "node", Server: catalog.ServerName(n.id, ""), Addr: n.addr, Weight: n.weight, MaxConn: n.maxConn, Backup: n.backup, AgentPort: n.agentPort, Version: n.version,
	}}
	for _, other := range c.services[n.service] {
		if other.inst.Addr == n.addr && other.inst.ID != n.id {
			n.shared = true
			if o := c.w.nodeOf(n.service, other.inst.ID); o != nil {
				o.shared = true
			}
		}
	}
	at := place{n.service, n.addr}
	c.w.said[at] = true
	delete(c.w.left, at)
	c.changed(n.service, "registers "+n.String()+" "+check.String())
}

func (c *consul) deregister(n *node) {
	if r := c.registrationOf(n); r != nil {
		delete(c.services[n.service], n.id)
		c.changed(n.service, "deregisters "+n.String())
	}
}

// registrationOf returns a node's registration, unless it is another node's by
// now, or still: a container that is created again may get the address of the one before.
func (c *consul) registrationOf(n *node) *registration {
	if r := c.services[n.service][n.id]; r != nil && r.of == n {
		return r
	}
	return nil
}

// routesTo reports whether another registration at a node's address takes
// traffic: the sidecar will hear that an instance is there.
func (c *consul) routesTo(n *node) bool {
	svc := c.w.service(n.service)
	for id, r := range c.services[n.service] {
		if id != n.id && r.inst.Addr == n.addr && takesTraffic(svc, r.instance()) {
			return true
		}
	}
	return false
}

// change changes a registration, if it is there. One that takes
// traffic again says that an instance is at its address.
func (c *consul) change(n *node, what string, do func(*registration)) {
	if r := c.registrationOf(n); r != nil {
		svc, was := c.w.service(n.service), r.instance()
		do(r)
		if takesTraffic(svc, r.instance()) && !takesTraffic(svc, was) {
			delete(c.w.left, place{n.service, r.inst.Addr})
		}
		c.changed(n.service, what+" "+n.String())
	}
}

// changed tells the sidecar, some time.
func (c *consul) changed(service, what string) {
	c.index++
	c.noteClaims(service)
	c.w.disturb()
	c.w.note("consul %s: %s", service, what)
	c.tell(service, time.Duration(c.w.callRNG.Int64N(int64(c.w.set.lag)+1)))
}

// tell lets the sidecar that runs now hear what is so now.
func (c *consul) tell(service string, lag time.Duration) {
	s, a := c.w.sidecar, c.answer(service)
	if s == nil {
		return
	}
	c.w.after(lag, func() {
		if c.up {
			s.view.take(a)
		}
	})
}

// away: no query has an answer.
func (c *consul) away() {
	c.w.note("consul is away")
	c.up = false
	if s := c.w.sidecar; s != nil {
		s.view.fail()
		s.reads(nil, errAway)
	}
}

// back: each query is tried again some time.
func (c *consul) back() {
	if c.up {
		return
	}
	c.w.note("consul is back")
	c.up = true
	c.tellAll(2 * time.Second)
}

func (c *consul) tellAll(within time.Duration) {
	for _, s := range c.w.set.services {
		c.tell(s.Name, time.Duration(c.w.callRNG.Int64N(int64(within))))
	}
	if c.w.set.rollouts {
		c.tellDocuments(time.Duration(c.w.callRNG.Int64N(int64(within))))
	}
}

// lose is what happens when a cluster has lost its data: it says, truly, that
// no instance is registered, at an index that begins again.
func (c *consul) lose() {
	c.w.note("consul has lost its data")
	c.epoch++
	c.index = 1
	clear(c.services)
	clear(c.documents.entries)
	c.tellDocuments(c.w.set.lag)
	for _, s := range c.w.set.services {
		c.changed(s.Name, "none")
	}
}

// view is what one sidecar knows of Consul: its reconcile.Catalog.
type view struct {
	w       *world
	s       *sidecar
	snap    catalog.Snapshot
	health  map[string]catalog.SourceHealth
	changes catalog.Changes
	epoch   map[string]int
	fresh   map[string]bool // services with an answer that the loop has not seen
	channel chan struct{}
}

var _ reconcile.Catalog = (*view)(nil)

func newView(w *world, s *sidecar) *view {
	return &view{w: w, s: s, health: map[string]catalog.SourceHealth{}, epoch: map[string]int{}, fresh: map[string]bool{}, channel: make(chan struct{}, 1)}
}

// Snapshot returns what is known, and notes what the sidecar acts on.
func (v *view) Snapshot() catalog.Snapshot {
	snap, o, without := catalog.Snapshot{}, v.s.overlay, error(nil)
	if o != nil { // which locks mu itself
		snap, without = o.Snapshot(), o.Err()
	}
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	switch {
	case o == nil:
		snap = v.snap
	case !errors.Is(without, catalog.ErrWithoutRollouts):
		v.w.checkShares(v.s, snap)
	}
	if len(v.fresh) > 0 && v.w.needsReload(v.s) {
		v.s.neededAt = v.w.now() // one that was decided just now has had a reason
	}
	v.s.given, v.s.givenEpoch = snap, maps.Clone(v.epoch)
	if len(v.fresh) > 0 {
		v.s.need = need{}
	}
	for name := range v.fresh {
		v.s.takes(snap.Service(name)) // while the rollouts are not read it has seen none
	}
	clear(v.fresh)
	v.s.noteLarge()
	return snap
}

// Health tells how the queries go.
func (v *view) Health(service string) catalog.SourceHealth {
	if o := v.s.overlay; o != nil {
		return o.Health(service)
	}
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	return v.health[service]
}

// News tells which services had another answer.
func (v *view) News(seen uint64, each func(service string, changed time.Time)) uint64 {
	if o := v.s.overlay; o != nil {
		return o.News(seen, each)
	}
	return source{v}.News(seen, each)
}

// Changed is the same channel each time.
func (v *view) Changed() <-chan struct{} { return v.channel }

// take is a good answer. One that is older than the known state is not used, as
// by the real source: an index that is lower only counts after a reset.
func (v *view) take(a answer) {
	if v.s.ended || v.s != v.w.sidecar {
		return
	}
	was := v.snap.Service(a.Name)
	if was.Known && a.epoch == v.epoch[a.Name] && a.Index < was.Index || a.epoch < v.epoch[a.Name] {
		return
	}
	h := v.health[a.Name]
	h.Answered, h.Err = time.Now(), nil
	news := !was.Equal(a.Service)
	if news {
		h.Changed = time.Now()
		if !h.Changed.After(v.health[a.Name].Changed) {
			h.Changed = v.health[a.Name].Changed.Add(time.Nanosecond)
		}
	}
	v.health[a.Name], v.epoch[a.Name] = h, a.epoch
	if news {
		v.changes.Note(a.Name)
	}
	v.snap = v.snap.With(a.Service)
	if news {
		if v.w.Trace {
			v.w.note("sidecar hears %s at index %d: %s", a.Name, a.Index, instances(a.Instances))
		}
		v.s.heard(a.Service)
		v.s.look()
		v.fresh[a.Name] = true
		v.wake()
	}
}

// wake wakes the loop.
func (v *view) wake() {
	select {
	case v.channel <- struct{}{}:
	default:
	}
}

var errAway = errors.New("connection refused")

func (v *view) fail() {
	for _, s := range v.w.set.services {
		h := v.health[s.Name]
		h.Err = errAway
		v.health[s.Name] = h
	}
}

func instances(all []catalog.Instance) string {
	var out strings.Builder
	for _, i := range all {
		fmt.Fprintf(&out, " %s@%s %s", i.ID, i.Addr, i.Health)
		if !i.Leaving.IsZero() {
			out.WriteString(" leaving")
		}
		if i.Weight != 1 {
			fmt.Fprintf(&out, " w%d", i.Weight)
		}
		if i.Backup {
			out.WriteString(" backup")
		}
		out.WriteString(";")
	}
	return out.String()
}

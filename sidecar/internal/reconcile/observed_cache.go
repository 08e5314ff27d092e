package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// observedCache is what was last read of HAProxy, and which backends must be read
// again before the next plan. So a change of one service reads one backend,
// however many there are.
type observedCache struct {
	observed plan.Observed
	stale    map[string]bool                     // backends to read; nil: all of them
	fresh    map[string]bool                     // backends of which something is new since they were last planned
	seen     map[string]time.Time                // by backend, when the answer that was taken had changed
	unseen   map[string]time.Time                // by backend, when an answer that was not taken yet did
	newsRead uint64                              // see Catalog.News
	left     map[string][]plan.FileServer        // by backend, when nothing was left to do
	refuses  map[string]bool                     // backends that refuse `add server`
	adds     map[string]bool                     // backends that have taken it
	static   map[string]bool                     // backends that have refused a weight
	whole    map[string]refusal                  // by backend, what HAProxy refuses to do with it at runtime
	absent   map[plan.Absence]time.Time          // since when instances have no ready server
	ended    map[string]map[string]time.Duration // see plan.Observed.Ended; what was handed out is not changed

	standings map[string]map[string]standing // by backend and server

	// What a comparison beside the loop must know: the clock goes on with each
	// backend that is read or changed.
	clock     uint64
	touched   map[string]uint64 // when that was last
	forgotten uint64            // when everything was
	lastRead  uint64            // when anything was last read
	failed    error             // of a comparison, and not taken yet
}

func newObservedCache() observedCache {
	return observedCache{fresh: map[string]bool{}, touched: map[string]uint64{}, seen: map[string]time.Time{}, unseen: map[string]time.Time{}, left: map[string][]plan.FileServer{}, refuses: map[string]bool{}, adds: map[string]bool{}, static: map[string]bool{}, whole: map[string]refusal{}, standings: map[string]map[string]standing{}}
}

// forget makes the next pass read everything.
func (k *observedCache) forget() {
	k.clock++
	k.stale, k.forgotten = nil, k.clock
}

// keep forgets when backends were read that are not listed any more: services come and go.
func (k *observedCache) keep(backends []string) {
	listed := make(map[string]bool, len(backends))
	for _, b := range backends {
		listed[b] = true
	}
	k.newsRead, k.unseen = 0, map[string]time.Time{}
	maps.DeleteFunc(k.seen, func(b string, _ time.Time) bool { return !listed[b] })
	maps.DeleteFunc(k.touched, func(b string, _ uint64) bool { return !listed[b] })
	maps.DeleteFunc(k.left, func(b string, _ []plan.FileServer) bool { return !listed[b] })
	maps.DeleteFunc(k.whole, func(b string, _ refusal) bool { return !listed[b] })
	maps.DeleteFunc(k.standings, func(b string, _ map[string]standing) bool { return !listed[b] })
	for _, of := range []map[string]bool{k.refuses, k.adds, k.static} {
		maps.DeleteFunc(of, func(b string, _ bool) bool { return !listed[b] })
	}
}

// touch makes the next pass read a backend.
func (k *observedCache) touch(backend string) {
	k.clock++
	k.touched[backend] = k.clock
	if k.stale != nil {
		k.stale[backend] = true
	}
}

// news returns the backends whose service has another answer than it had, with the time of
// that.
func (k *observedCache) news(services []plan.Service, c Catalog) map[string]time.Time {
	k.newsRead = c.News(k.newsRead, func(backend string, changed time.Time) {
		if k.unseen[backend] = changed; changed.Equal(k.seen[backend]) {
			delete(k.unseen, backend)
		}
	})
	out := map[string]time.Time{}
	for i := range services {
		if len(k.unseen) == 0 {
			break
		}
		if at, is := k.unseen[services[i].Backend]; is {
			out[services[i].Backend] = at
		}
	}
	return out
}

// changed marks the backends of services of which there is news, and gives the services.
func (k *observedCache) changed(services []plan.Service, news map[string]time.Time) (changed []plan.Service) {
	if len(news) == 0 {
		return nil
	}
	for i := range services {
		backend := services[i].Backend
		if at, is := news[backend]; is {
			k.seen[backend] = at
			delete(k.unseen, backend)
			k.touch(backend)
			k.fresh[backend] = true
			changed = append(changed, services[i])
		}
	}
	return changed
}

// unplanned returns the services, by backend, that have another answer than the one that was
// planned, with the time of the answer.
func (a *Agent) unplanned() map[string]time.Time { return a.known.news(a.set.Services, a.catalog) }

// isPlanned reports whether an answer of that time was planned, or is none any more.
func (a *Agent) isPlanned(backend string, answer time.Time) bool {
	return !a.known.seen[backend].Before(answer) || a.catalog.Health(backend).Changed.Before(answer)
}

// always lists what is read every time.
func always(set Settings) []string {
	if set.Rotation {
		return []string{plan.RotationBackend}
	}
	return nil
}

// backends lists all that are read.
func (k *observedCache) backends(set Settings) []string {
	all := always(set)
	for _, s := range set.Services {
		all = append(all, s.Backend)
	}
	return all
}

var errAnotherProcess = errors.New("HAProxy is another process now")

// read brings the knowledge up to date, except for the backends that are skipped. A
// process other than the one that was known is read whole: with errAnotherProcess in
// another pass, which skips none and has Consul's newest answers for all.
func (k *observedCache) read(ctx context.Context, h HAProxy, set Settings, skipped map[string]bool) error {
	all := k.backends(set)
	ask := all
	if k.stale != nil && k.observed.Running {
		stale := slices.DeleteFunc(slices.Sorted(maps.Keys(k.stale)), func(name string) bool { return skipped[name] })
		if len(stale) == 0 {
			return nil
		}
		ask = slices.Concat(always(set), stale)
	}
	began := time.Now()
	o, err := plan.Observed{}, k.failed
	if k.failed = nil; err == nil {
		o, err = h.Observe(ctx, ask)
	}
	if err == nil && len(ask) < len(all) && (o.PID != k.observed.PID || o.Marker != k.observed.Marker) {
		// Should it end now, this is the newest that is known of who takes traffic.
		maps.Copy(k.observed.Backends, o.Backends)
		if len(skipped) > 0 {
			k.forget()
			return errAnotherProcess
		}
		ask, began = all, time.Now()
		o, err = h.Observe(ctx, ask)
	}
	if err != nil {
		k.observed.Running, k.stale = false, nil
		if errors.Is(err, plan.ErrNotRunning) {
			clear(k.standings) // what starts then is no new worker of the same
		}
		return err
	}
	k.take(o.WithMaintenance(), ask, began)
	return nil
}

// take takes a reading that began at a time.
func (k *observedCache) take(o plan.Observed, asked []string, began time.Time) {
	if o.PID != k.observed.PID {
		// A new process has its file's servers; what we left in the old one is
		// no measure for it.
		clear(k.left)
		k.observed.Backends = nil
	}
	if o.Marker != k.observed.Marker || o.Caps != k.observed.Caps {
		// Another configuration, or another program, has refused nothing yet, and
		// taken nothing. The same one would again.
		clear(k.refuses)
		clear(k.adds)
		clear(k.static)
		clear(k.whole)
	}
	if k.observed.Backends == nil {
		k.observed.Backends = map[string]plan.Backend{}
	}
	for _, name := range asked {
		k.clock++
		k.fresh[name], k.touched[name] = true, k.clock
		k.takeBackend(name, o, began)
	}
	o.Backends = k.observed.Backends
	k.observed = o
	if k.lastRead = k.clock; k.stale == nil {
		k.stale = map[string]bool{}
	}
	for _, name := range asked {
		delete(k.stale, name)
	}
}

// takeBackend takes one backend as it was read, and reports whether it is otherwise since when
// its servers are in their states.
func (k *observedCache) takeBackend(name string, o plan.Observed, began time.Time) (isSinceOther bool) {
	if r, isRefused := k.whole[name]; isRefused && r.isOver(o.Backends, name) {
		delete(k.whole, name)
	}
	if b, exists := o.Backends[name]; exists {
		b.Left, b.Refuses, b.Adds, b.Static = k.left[name], k.refuses[name], k.adds[name], k.static[name]
		k.observed.Backends[name] = b
	} else {
		delete(k.observed.Backends, name)
	}
	return k.noteStandings(name, o, began)
}

// settled remembers how the servers are that the plan leaves alone. Those of a
// backend are kept apart: one that is drained for an hour is no reason to take
// what the sidecar does to the others meanwhile for someone else's doing.
func (k *observedCache) settled(p plan.Plan, skipped map[string]bool) {
	busy := map[[2]string]bool{}
	for _, s := range p.Steps {
		busy[[2]string{s.Backend, s.Server}] = true
	}
	for _, w := range p.Waiting {
		if w.For != plan.ForCheck && w.For != plan.ForDamping && !w.Stays {
			busy[[2]string{w.Backend, w.Server}] = true
		}
	}
	for _, f := range p.File {
		b, exists := k.observed.Backends[f.Backend]
		if !k.fresh[f.Backend] || skipped[f.Backend] {
			continue // it was planned before
		}
		if !exists || busy[[2]string{f.Backend, ""}] {
			continue
		}
		left := make([]plan.FileServer, 0, len(f.Servers))
		for _, s := range f.Servers {
			if !busy[[2]string{f.Backend, s.Name}] {
				left = append(left, s)
			}
		}
		for _, s := range k.left[f.Backend] {
			if busy[[2]string{f.Backend, s.Name}] {
				left = append(left, s)
			}
		}
		k.left[f.Backend], b.Left = left, left
		k.observed.Backends[f.Backend] = b
	}
	maps.DeleteFunc(k.fresh, func(backend string, _ bool) bool { return !skipped[backend] })
}

// noteStep remembers what the sidecar itself has done to a server, also to one that waits
// for something ever since and is not settled: it is no one else's doing.
func (k *observedCache) noteStep(s plan.Step) {
	if s.Kind == plan.Shutdown && s.Sessions > 0 {
		k.noteEnded(s)
	}
	i := slices.IndexFunc(k.left[s.Backend], func(l plan.FileServer) bool { return l.Name == s.Server })
	if i < 0 {
		return
	}
	left := slices.Clone(k.left[s.Backend]) // what was decided from it stays as it was
	switch l := &left[i]; s.Kind {
	case plan.SetReady:
		l.Disabled = false
		for _, x := range k.observed.Backends[s.Backend].Servers {
			if x.Name != s.Server {
				continue
			}
			l.Addr = x.Addr // its instance's, or it would not be made ready
			if l.Weight == 0 {
				l.Weight = max(1, x.Weight) // it was left in drain
			}
		}
	case plan.SetDrain:
		l.Weight = 0
	case plan.SetMaint:
		l.Disabled = true
	case plan.Add, plan.Delete, plan.SetWeight, plan.SetMaxConn, plan.SetAddr, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.Shutdown,
		plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
		return
	}
	k.left[s.Backend] = left
}

// noteEnded remembers when a part of a server's sessions was ended.
func (k *observedCache) noteEnded(s plan.Step) {
	for _, x := range k.observed.Backends[s.Backend].Servers {
		if x.Name != s.Server {
			continue
		}
		servers := maps.Clone(k.ended[s.Backend])
		if servers == nil {
			servers = map[string]time.Duration{}
		}
		servers[s.Server] = x.SinceChange
		if k.ended = maps.Clone(k.ended); k.ended == nil {
			k.ended = map[string]map[string]time.Duration{}
		}
		k.ended[s.Backend] = servers
	}
}

// forgetEnded forgets that of servers whose sessions the plan neither ends nor waits for.
func (k *observedCache) forgetEnded(p plan.Plan) {
	if len(k.ended) == 0 {
		return
	}
	next := map[string]map[string]time.Duration{}
	keep := func(backend, server string) {
		at, known := k.ended[backend][server]
		if !known {
			return
		}
		if next[backend] == nil {
			next[backend] = map[string]time.Duration{}
		}
		next[backend][server] = at
	}
	for _, s := range p.Steps {
		keep(s.Backend, s.Server)
	}
	for _, w := range p.Waiting {
		keep(w.Backend, w.Server)
	}
	k.ended = next
}

// noteAbsent remembers since when the instances of a plan have no ready server.
func (k *observedCache) noteAbsent(now time.Time, p plan.Plan) {
	next := make(map[plan.Absence]time.Time, len(p.Absent))
	for _, a := range p.Absent {
		since, known := k.absent[a]
		if !known {
			since = now
		}
		next[a] = since
	}
	k.absent = next
}

// absences returns that memory as a plan wants it.
func (k *observedCache) absences(now time.Time) map[string]map[string]time.Duration {
	if len(k.absent) == 0 {
		return nil
	}
	out := map[string]map[string]time.Duration{}
	for a, since := range k.absent {
		if out[a.Backend] == nil {
			out[a.Backend] = map[string]time.Duration{}
		}
		out[a.Backend][a.Server] = now.Sub(since)
	}
	return out
}

// refusedWeight notes that a backend's balance algorithm is static.
func (k *observedCache) refusedWeight(backend string) {
	k.static[backend] = true
	k.touch(backend)
}

// refusal is what HAProxy refuses to do with a backend at runtime.
type refusal struct {
	kind plan.Kind
	why  string // HAProxy's words
}

// isOver reports whether that is done all the same.
func (r refusal) isOver(backends map[string]plan.Backend, name string) bool {
	b, exists := backends[name]
	switch r.kind {
	case plan.AddBackend:
		return exists
	case plan.PublishBackend:
		return !exists || !b.Unpublished
	case plan.UnpublishBackend:
		return !exists || b.Unpublished
	default:
		return !exists
	}
}

// refusedBackend notes that a reload has to do what a step of a whole backend was to do.
func (k *observedCache) refusedBackend(s plan.Step, err error) {
	k.whole[s.Backend] = refusal{s.Kind, oneLine(err)}
}

// whyRefused returns that memory as a plan wants it.
func (k *observedCache) whyRefused() map[string]string {
	if len(k.whole) == 0 {
		return nil
	}
	out := make(map[string]string, len(k.whole))
	for backend, r := range k.whole {
		out[backend] = r.why
	}
	return out
}

// refused notes that a backend takes no servers at runtime.
func (k *observedCache) refused(backend string) {
	k.refuses[backend] = true
	k.touch(backend)
}

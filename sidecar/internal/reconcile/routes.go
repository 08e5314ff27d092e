package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Maps is how HAProxy's maps are read and changed. Every call is bounded by its
// context and by the adapter's own deadlines.
type Maps interface {
	// ReadMap gives the entries of a map, which is named by its file. Its error is an
	// unknownMap where HAProxy does not have the map.
	ReadMap(ctx context.Context, file string) ([]route.Entry, error)
	// UpdateMap sends an update. A nil error means that HAProxy took it; only
	// ReadMap, or FindEntry for one key, proves that it has acted.
	UpdateMap(ctx context.Context, file string, u route.Update, want route.Table) error
	// FindEntry gives the entry that a lookup of a key finds: that of the key, else of the
	// longest one that it begins with. It is zero if there is none.
	FindEntry(ctx context.Context, file, key string) (route.Entry, error)
}

// RouteMap is the routes of one frontend.
type RouteMap struct {
	Frontend string
	File     string // of the map
	Default  string // backend of what no route matches; "" is none
	Want     route.Table
	Routes   []RouteState
	// Keep reports of a line that HAProxy has besides Want, or otherwise, whether a service may
	// claim that route: it stays while that service, or the one of Want, is one of
	// Settings.Unheard. nil: none may.
	Keep func(route.Entry) bool
}

// wants is what HAProxy is to have that has these lines now, without routes to these backends.
// isAll is false where it goes on having a route of Want otherwise.
func (m RouteMap) wants(have []route.Entry, without map[string]bool, unheard func(backend string) bool) (want route.Table, isAll bool) {
	want = withoutRoutesTo(without, m.Want)
	if m.Keep == nil || unheard == nil {
		return want, true
	}
	with := want.Keeping(have, func(e, wanted route.Entry) bool {
		mayBeKnownLater := unheard(backendOf(e)) || wanted.Value != "" && unheard(backendOf(wanted))
		return mayBeKnownLater && !leadsTo(without, e) && m.Keep(e)
	})
	return with, with.Has(want)
}

// routeKeeper is what the agent knows of the maps in HAProxy.
type routeKeeper struct {
	ofPID   int             // the worker whose maps were compared last
	due     time.Time       // when they are looked at again
	whole   time.Time       // when they are read again from end to end; zero: at the next look
	fresh   bool            // the settings are new: a difference is theirs
	without map[string]bool // backends that no route led to then
	err     error
	retry   backoff
	seenIn  int                      // the worker that seen is of
	seen    map[string][]route.Entry // by file, what this worker had when nothing was left to do
	led     map[string]tables        // by file, what this worker may have, also while that is not as wanted
	held    []string                 // backends whose end waits until no route leads there
	applied map[string]time.Time     // by frontend, since when HAProxy has what is wanted
}

// expect takes that other routes are wanted than before.
func (r *routeKeeper) expect() {
	r.fresh, r.due, r.applied = true, time.Time{}, nil
}

// forget takes that the maps may be others: a HAProxy that has started again may have the
// PID of the one before, as in a container.
func (r *routeKeeper) forget() { r.ofPID, r.seenIn, r.seen, r.led, r.applied = 0, 0, nil, nil, nil }

// holdLed leaves out the end of backends to which HAProxy may have a route: the route goes
// first.
func (a *Agent) holdLed(steps []plan.Step) []plan.Step {
	a.routes.held = nil
	holds := func(s plan.Step) bool { return s.Kind == plan.UnpublishBackend && a.mayLeadTo(s.Backend) }
	if !slices.ContainsFunc(steps, holds) {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool {
		is := holds(s)
		if is {
			a.routes.held = append(a.routes.held, s.Backend)
		}
		return is
	})
}

// mayLeadTo reports whether HAProxy may have a route to a backend: one of its maps has never
// been read, or has one.
func (a *Agent) mayLeadTo(backend string) bool {
	if a.maps == nil || len(a.set.Maps) == 0 {
		return false
	}
	r, o := &a.routes, a.known.observed
	return r.seenIn != o.PID || o.Marker != a.set.Renderer.Marker() || slices.ContainsFunc(a.set.Maps, func(m RouteMap) bool {
		may, known := r.led[m.File]
		return !known || may.leadTo(backend)
	})
}

// tables is what a map may have: one of them.
type tables [2][]route.Entry

func (t tables) leadTo(backend string) bool {
	leads := func(e route.Entry) bool { return backendOf(e) == backend }
	return slices.ContainsFunc(t[0], leads) || slices.ContainsFunc(t[1], leads)
}

// mapShare bounds what the comparison of maps takes of the loop's time, up to comparedMax:
// HAProxy may have answered slowly just once.
const mapShare = 200

// syncRoutes compares HAProxy's maps with the routes and corrects them, and gives
// the time until it is to be called again. Routes that come with other settings
// come into HAProxy by their reload.
func (a *Agent) syncRoutes(ctx context.Context) time.Duration {
	r, o, without := &a.routes, a.known.observed, a.unroutable()
	if !maps.Equal(without, r.without) {
		r.expect()
		r.without = without
	}
	if len(a.set.Maps) == 0 || a.maps == nil || !o.Running || o.Marker != a.set.Renderer.Marker() {
		r.ofPID, r.applied = 0, nil
		return time.Hour
	}
	if wait := a.untilTakeover(); wait > 0 { // a change could miss the worker that is about to begin
		r.ofPID = 0
		return wait
	}
	now := time.Now()
	if r.ofPID == o.PID && now.Before(r.due) {
		return r.due.Sub(now)
	}
	if r.seenIn != o.PID || r.seen == nil {
		r.seenIn, r.seen, r.led = o.PID, map[string][]route.Entry{}, map[string]tables{}
	}
	isNew, isWhole := r.fresh || r.ofPID != o.PID, r.ofPID != o.PID || !now.Before(r.whole)
	if isNew || r.applied == nil {
		r.applied = map[string]time.Time{}
	}
	r.ofPID = o.PID
	var failed error
	for _, m := range a.set.Maps {
		if err := a.syncMap(ctx, m, isNew, isWhole); err != nil && failed == nil {
			failed = err
		}
	}
	if ctx.Err() != nil {
		return time.Hour
	}
	switch {
	case failed != nil:
		r.whole, r.due = time.Time{}, time.Now().Add(r.retry.next(a.jitter))
	case isWhole:
		r.whole = time.Now().Add(max(a.set.Reconcile, min(mapShare*time.Since(now), comparedMax)))
		r.due = r.whole
	default:
		r.due = r.whole
	}
	if failed == nil {
		r.fresh, r.retry = false, backoff{}
	}
	a.noteRoutes(failed)
	return time.Until(r.due)
}

// syncMap brings one map to what is wanted. New routes go by what the map had when
// it was last read: reading a large one takes longer than all else. What was sent is
// read back: one route alone, unless the whole map is due.
func (a *Agent) syncMap(ctx context.Context, m RouteMap, isNew, isWhole bool) error {
	r := &a.routes
	have, known := r.seen[m.File]
	delete(r.seen, m.File) // not known any more, unless it is read again
	known = known && (isNew || !isWhole)
	changed := false
	is := func(have []route.Entry, isAll bool) {
		r.seen[m.File], r.led[m.File] = have, tables{have}
		if _, was := r.applied[m.Frontend]; !was || changed {
			r.applied[m.Frontend] = time.Now()
		}
		if !isAll {
			delete(r.applied, m.Frontend)
		}
	}
	for range mapRounds {
		wasRead := !known
		if wasRead {
			var err error
			if have, err = a.maps.ReadMap(ctx, m.File); err != nil {
				return err
			}
			isWhole, r.led[m.File] = false, tables{have}
		}
		known = false
		want, isAll := m.wants(have, r.without, a.set.Unheard)
		u := route.UpdateOf(have, want)
		switch {
		case len(u.Changes) > 0:
			r.led[m.File] = tables{have, want}
			err := a.maps.UpdateMap(ctx, m.File, u, want)
			if err != nil && wasRead {
				return err
			}
			if changed = true; err != nil {
				continue
			}
			a.logRoutes(m, u, isNew)
			if !isWhole && !u.Replace && a.shows(ctx, m.File, u.Changes[0]) {
				is(want, isAll)
				return nil
			}
		case !isWhole:
			is(have, isAll)
			return nil
		}
	}
	return fmt.Errorf("haproxy: map %s: routes that were sent do not show", m.File)
}

// shows reports whether a lookup in HAProxy goes by one route that was sent. Else the
// whole map tells what it has.
func (a *Agent) shows(ctx context.Context, file string, c route.Change) bool {
	found, err := a.maps.FindEntry(ctx, file, c.Key)
	if c.Kind == route.Del {
		return err == nil && found.Key != c.Key
	}
	return err == nil && found == route.Entry{Key: c.Key, Value: c.Value}
}

// mapRounds is how often one pass reads and updates a map: once as it is known, once
// as it is read, and a last look.
const mapRounds = 3

// logRoutes writes a line for one route, or one for several.
func (a *Agent) logRoutes(m RouteMap, u route.Update, isNew bool) {
	log, prefix := a.log.Info, "route "
	if !isNew {
		log, prefix = a.log.Warn, "drift corrected: route "
	}
	if len(u.Changes) == 1 {
		c := u.Changes[0]
		log(prefix+string(c.Kind), "frontend", m.Frontend, "route", c.Key, "to", c.Value)
		return
	}
	counts := map[route.ChangeKind]int{}
	for _, c := range u.Changes {
		counts[c.Kind]++
	}
	log(prefix+"table changed", "frontend", m.Frontend, "added", counts[route.Add], "changed", counts[route.Set], "removed", counts[route.Del])
}

// noteRoutes logs once that maps cannot be brought to what is wanted.
func (a *Agent) noteRoutes(err error) {
	r := &a.routes
	switch {
	case err != nil && text(r.err) != err.Error():
		a.log.Error("routes update failed", "error", oneLine(err))
	case err == nil && r.err != nil:
		a.log.Info("routes update recovered")
	}
	r.err = err
}

// frontendStates returns the frontends as they are published.
func (a *Agent) frontendStates() []FrontendState {
	states, without := make([]FrontendState, 0, len(a.set.Maps)), a.unroutable()
	for _, m := range a.set.Maps {
		states = append(states, FrontendState{
			Name: m.Frontend, Default: m.Default, Applied: a.routes.applied[m.Frontend], Error: text(a.routes.err), Routes: m.Routes,
			Withheld: withheld(without, m.Routes),
		})
	}
	return states
}

// Find returns the routes of the host and path that a request with these is led by, in
// the order of the settings; none if no route matches. Which of several counts is
// for its method and headers to say.
func (f *FrontendState) Find(host, path string) (found []RouteState) {
	keys := make(route.Map, len(f.Routes))
	for _, r := range f.Routes {
		keys[r.Key()] = r.Backend
	}
	key, _ := keys.Lookup(host, path)
	for _, r := range f.Routes {
		if key != "" && r.Key() == key {
			found = append(found, r)
		}
	}
	return found
}

// Key is that of the route in HAProxy's map.
func (r RouteState) Key() string {
	return r.Host + strings.TrimSuffix(r.Path, "/") + "/" // as route.Route.Key, with "*" for every host
}

package reconcile

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Maps is how HAProxy's maps are read and changed. Every call is bounded by its
// context and by the adapter's own deadlines.
type Maps interface {
	// ReadMap gives the entries of a map, which is named by its file.
	ReadMap(ctx context.Context, file string) ([]route.Entry, error)
	// UpdateMap sends an update. A nil error means that HAProxy took it; only
	// ReadMap proves that it has acted.
	UpdateMap(ctx context.Context, file string, u route.Update, want route.Map) error
}

// RouteMap is the routes of one frontend.
type RouteMap struct {
	Frontend string
	File     string // of the map
	Default  string // backend of what no route matches; "" is none
	Want     route.Map
	Routes   []RouteState
}

// routeKeeper is what the agent knows of the maps in HAProxy.
type routeKeeper struct {
	ofPID   int             // the worker whose maps were compared last
	due     time.Time       // when they are compared again
	fresh   bool            // the settings are new: a difference is theirs
	without map[string]bool // backends that no route led to then
	err     error
	retry   backoff
	seenIn  int                      // the worker that seen is of
	seen    map[string][]route.Entry // by file, what this worker had when nothing was left to do
	applied map[string]time.Time     // by frontend, since when HAProxy has what is wanted
}

// mapShare bounds what the comparison of maps takes of the loop's time.
const mapShare = 200

// syncRoutes compares HAProxy's maps with the routes and corrects them, and gives
// the time until it is to be called again. Routes that come with other settings
// come into HAProxy by their reload.
func (a *Agent) syncRoutes(ctx context.Context) time.Duration {
	r, o := &a.routes, a.known.observed
	if len(a.set.Maps) == 0 || a.maps == nil || !o.Running || o.Marker != a.set.Renderer.Marker() {
		r.ofPID, r.applied = 0, nil
		return time.Hour
	}
	if wait := a.untilTakeover(); wait > 0 { // a change could miss the worker that is about to begin
		r.ofPID = 0
		return wait
	}
	now, without := time.Now(), a.unroutable()
	if !maps.Equal(without, r.without) {
		r.fresh, r.due, r.without = true, time.Time{}, without
	}
	if r.ofPID == o.PID && now.Before(r.due) {
		return r.due.Sub(now)
	}
	if r.seenIn != o.PID || r.seen == nil {
		r.seenIn, r.seen = o.PID, map[string][]route.Entry{}
	}
	isNew := r.fresh || r.ofPID != o.PID
	if isNew || r.applied == nil {
		r.applied = map[string]time.Time{}
	}
	r.ofPID = o.PID
	var failed error
	for _, m := range a.set.Maps {
		m.Want = withoutRoutesTo(without, m.Want)
		if err := a.syncMap(ctx, m, isNew); err != nil && failed == nil {
			failed = err
		}
	}
	if ctx.Err() != nil {
		return time.Hour
	}
	wait := max(a.set.Reconcile, mapShare*time.Since(now))
	if failed != nil {
		wait = r.retry.next(a.jitter)
	} else {
		r.fresh, r.retry = false, backoff{}
	}
	r.due = time.Now().Add(wait)
	a.noteRoutes(failed)
	return wait
}

// syncMap brings one map to what is wanted. New routes go by what the map had when
// it was last read: reading a large one takes longer than all else. What was sent is
// read back.
func (a *Agent) syncMap(ctx context.Context, m RouteMap, isNew bool) error {
	r := &a.routes
	have, known := r.seen[m.File]
	delete(r.seen, m.File) // not known any more, unless it is read again
	changed := false
	for range mapRounds {
		var err error
		if !known || !isNew {
			if have, err = a.maps.ReadMap(ctx, m.File); err != nil {
				return err
			}
		}
		u := route.UpdateOf(have, m.Want)
		if len(u.Changes) > 0 {
			changed = true
			if err = a.maps.UpdateMap(ctx, m.File, u, m.Want); err == nil {
				a.logRoutes(m, u, isNew)
			}
		}
		if err != nil && (!known || !isNew) {
			return err
		}
		if len(u.Changes) == 0 {
			r.seen[m.File] = have
			if _, was := r.applied[m.Frontend]; !was || changed {
				r.applied[m.Frontend] = time.Now()
			}
			return nil
		}
		known = false
	}
	return fmt.Errorf("haproxy: map %s: routes that were sent do not show", m.File)
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

// frontendStates gives the frontends as they are published.
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

// Find gives the routes of the host and path that a request with these is led by, in
// the order of the settings; none if no route matches. Which of several counts is
// for its method and headers to say.
func (f *FrontendState) Find(host, path string) (found []RouteState) {
	keys := make(route.Map, len(f.Routes))
	for _, r := range f.Routes {
		keys[r.key()] = r.Backend
	}
	key, _ := keys.Lookup(host, path)
	for _, r := range f.Routes {
		if key != "" && r.key() == key {
			found = append(found, r)
		}
	}
	return found
}

func (r RouteState) key() string {
	return r.Host + strings.TrimSuffix(r.Path, "/") + "/" // as route.Route.Key, with "*" for every host
}

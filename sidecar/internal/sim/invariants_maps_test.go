package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// live is a claimed route that the sidecar has called live, with the file current.
type live struct {
	service string
	since   time.Duration
}

// checkLive: a route that was called live leads to its service for as long as one of its
// instances claims it, also where another program loads the file. What acts since then could
// know it. isTheirs tells of a table that another program has changed and that may stay so.
func (w *world) checkLive(who string, acts time.Duration, isTheirs func(*table) bool) {
	if w.disk.foreign || w.disk.foreignMaps {
		clear(w.liveRoutes) // who has written that file answers for it
	}
	for _, at := range sortedKeys(w.liveRoutes) {
		was, t := w.liveRoutes[at], w.proxy.worker.tables[mapFile(at.frontend)]
		b := w.proxy.worker.backends[was.service]
		if was.since > acts || b == nil || b.unpublished || t == nil && w.proxy.worker.marker == (plan.Marker{}) || t != nil && isTheirs(t) {
			continue
		}
		if t == nil || !slices.ContainsFunc(valuesOf(t.entries, at.key), func(v string) bool { return backendOf(v) == was.service }) {
			w.breach(zeroFailures, "%s has not the route %s to %s, whose instances claim it", who, at, was.service)
		}
	}
}

// checkMayUpdate judges that a map is changed at all.
func (w *world) checkMayUpdate(s *sidecar, file string) {
	if s.told {
		w.breach(outlives, "map %s is changed by a sidecar that was told to end", file)
	}
	if s.clean {
		w.breach(adopts, "HAProxy matches, and map %s is changed", file)
	}
}

// checkKept: as long as Consul has not said to this sidecar what is claimed, a route that HAProxy
// has stays with a service whose instances claim it, whether haproxy.cfg has it or not. What the
// settings had of a route when the pass began may still go in, and what a service has claimed
// since Consul spoke of it last cannot be known.
func (w *world) checkKept(s *sidecar, file string, t *table, u route.Update) {
	if s.mayKnowClaims() || t.foreign > 0 || w.unseenProxy(s) {
		return
	}
	for _, c := range u.Changes {
		at := routeKey{strings.TrimSuffix(file, ".map"), c.Key}
		if _, isTheirs := w.operator[at]; isTheirs || w.ordained[at] >= s.passed {
			continue
		}
		for _, value := range valuesOf(t.entries, c.Key) {
			service := backendOf(value)
			b, since, told := w.proxy.worker.backends[service], w.consul.claimedSince[at][service], s.view.snap.Service(service)
			mayKnow := !told.Known || told.Index >= since && s.view.epoch[service] == w.consul.epoch
			if b != nil && !b.unpublished && since > 0 && mayKnow && (c.Kind == route.Del || backendOf(c.Value) != service) {
				w.breach(unknownIsNotEmpty, "route %s %s %s: it leads to %s, whose instances claim it", c.Kind, at, c.Value, value)
			}
		}
	}
}

// checkUpdate judges what the sidecar has made of a map: no route leads where no request
// is answered.
func (w *world) checkUpdate(s *sidecar, file string, u route.Update) {
	t := w.proxy.worker.tables[file]
	isTheirs := t.foreign > 0 && !s.knowsClaims() // what another program has written may be claimed
	w.checkLive("the sidecar's update of "+file, s.passed, func(of *table) bool { return of != t || isTheirs })
	if w.unseenProxy(s) || isTheirs {
		return
	}
	for _, c := range u.Changes {
		b := w.proxy.worker.backends[backendOf(c.Value)]
		switch {
		case c.Kind == route.Del:
		case b == nil:
			w.breach(zeroFailures, "the route %s leads to %s, which HAProxy has not", c.Key, c.Value)
		case b.unpublished:
			w.breach(zeroFailures, "the route %s leads to %s, which is not published", c.Key, c.Value)
		}
	}
}

// checkFrontends: routes that are called live are in HAProxy, and in the map files if the
// file is called current.
func (w *world) checkFrontends(s *sidecar, st *reconcile.State) {
	for i := range st.Frontends {
		f := &st.Frontends[i]
		t, all := w.proxy.worker.tables[mapFile(f.Name)], route.Map{}
		if f.Applied.IsZero() || t == nil {
			continue
		}
		led := route.Map{}
		for _, r := range f.Routes {
			x := route.Route{Host: noStar(r.Host), Path: noStar(r.Path), Strip: r.Strip, Backend: r.Backend}
			if all[x.Key()] = x.Value(); !slices.Contains(f.Withheld, r.Backend) {
				led[x.Key()] = x.Value()
			}
		}
		if read, has := s.readMaps[t]; !has || t.foreign >= read && t.foreign > 0 {
			continue
		}
		if f.Error == "" && !sameEntries(t.entries, led.Table()) && (s.knowsClaims() || !hasEntries(t.entries, led)) {
			w.breach(readBack, "the state calls the routes %v of %s live, HAProxy has %v", led, f.Name, t.entries)
		}
		if !st.File.Current || w.disk.foreign || w.disk.foreignMaps {
			continue
		}
		if on := w.disk.maps[mapFile(f.Name)]; !sameEntries(on, all.Table()) {
			w.breach(fileAgrees, "the file is said to be current, and the map of %s has %v, not %v", f.Name, on, all)
		}
		w.noteLive(s, f.Name, led)
	}
}

// hasEntries reports whether a map leads all these keys as wanted.
func hasEntries(entries []route.Entry, want route.Map) bool {
	for key, value := range want {
		if !slices.Equal(valuesOf(entries, key), []string{value}) {
			return false
		}
	}
	return true
}

// noStar is a host or path as a route has it.
func noStar(s string) string {
	if s == "*" || s == "/" {
		return ""
	}
	return s
}

// noteLive notes what is called live and claimed now, as the sidecar was told, too. A route
// that the settings had is not there for a sidecar that starts before the file says that it
// is claimed.
func (w *world) noteLive(s *sidecar, frontend string, led route.Map) {
	c, _ := w.disk.on()
	for key, value := range led {
		isSaved := slices.ContainsFunc(c.found.Routes, func(r *route.FoundRoute) bool {
			return r.Frontend == frontend && r.Route("").Key() == key && r.Service == backendOf(value)
		})
		if !isSaved {
			continue
		}
		at, service := routeKey{frontend, key}, backendOf(value)
		told, since := s.view.snap.Service(service), w.consul.claimedSince[at][service]
		_, is := w.liveRoutes[at]
		isFound := slices.ContainsFunc(s.finder.found.Routes, func(f *route.FoundRoute) bool {
			return f.Frontend == frontend && f.Route("").Key() == key && f.Service == service
		}) // else newer settings give it to another
		if is || !isFound || since == 0 || !told.Known || told.Index < since || s.view.epoch[service] != w.consul.epoch {
			continue
		}
		w.liveRoutes[at] = live{service, w.now()}
	}
}

// mapsDiffer says what HAProxy or the map files have otherwise than the rules say of the
// settings and of Consul, or "". Of several that claim a route any may have it.
func (w *world) mapsDiffer(c content) string {
	want := map[routeKey][]string{}
	for _, svc := range w.set.services {
		for at, values := range w.claimed(w.consul.answer(svc.Name).Service) {
			want[at] = append(want[at], values...)
		}
	}
	for at, r := range w.operator {
		want[at] = []string{r.Value()}
	}
	for _, frontend := range w.set.frontends {
		t := w.proxy.worker.tables[mapFile(frontend)]
		if t == nil {
			return "HAProxy has no map of " + frontend
		}
		have := route.Map{}
		for _, e := range t.entries {
			at := routeKey{frontend, e.Key}
			if _, again := have[e.Key]; again || !slices.Contains(want[at], e.Value) {
				return fmt.Sprintf("HAProxy has the route %s to %s, want one of %v", at, e.Value, want[at])
			}
			have[e.Key] = e.Value
		}
		for _, at := range sortedKeys(want) {
			if at.frontend == frontend && have[at.key] == "" {
				return fmt.Sprintf("HAProxy has not the route %s to one of %v", at, want[at])
			}
		}
		if !sameEntries(w.disk.maps[mapFile(frontend)], have.Table()) || !sameEntries(c.maps[mapFile(frontend)], have.Table()) {
			return "HAProxy and the file differ on the routes of " + frontend
		}
	}
	return ""
}

// isWanted reports whether HAProxy is to have the service's backend in the end: a route
// leads there.
func (w *world) isWanted(svc plan.Service) bool {
	if !isDiscovered(svc) {
		return true
	}
	for at, values := range w.claimed(w.consul.answer(svc.Name).Service) {
		if _, isTaken := w.operator[at]; isTaken {
			continue
		}
		if t := w.proxy.worker.tables[mapFile(at.frontend)]; t != nil && slices.ContainsFunc(valuesOf(t.entries, at.key), func(v string) bool { return slices.Contains(values, v) }) {
			return true
		}
	}
	return false
}

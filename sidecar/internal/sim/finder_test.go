package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// grace is how long a route stays that no instance claims, and a backend without routes.
const grace = 3 * time.Second

// finder is what a sidecar runs beside its loop: it makes routes and services of what is
// claimed in Consul.
type finder struct {
	found    route.Found
	tracker  route.Tracker
	heardAt  time.Duration            // when Consul had said all that is claimed
	planned  int                      // looks; only the last one comes
	operator map[routeKey]route.Route // the routes of the settings of now
}

// candidates is what the services say, as far as that is known.
func (w *world) candidates(snap catalog.Snapshot) (out []route.Candidate) {
	for _, svc := range w.set.services {
		s := snap.Service(svc.Name)
		c := route.Candidate{Service: svc.Name, Known: s.Known}
		for _, claim := range s.Claims {
			c.Claims = append(c.Claims, route.Claim(claim))
		}
		out = append(out, c)
	}
	return out
}

// savedFound is what a sidecar that starts goes by: the file, or, where another program has
// written that, what it will hear.
func (w *world) savedFound() route.Found {
	if len(w.set.frontends) == 0 {
		return route.Found{}
	}
	now := time.Now()
	c, _ := w.disk.on()
	before, isSettled, said := c.found, false, w.candidates(catalog.Snapshot{})
	if w.disk.foreign {
		before, isSettled, said = route.Found{}, true, w.candidates(w.consul.snapshot())
	}
	found, _ := route.Discover(w.rules(), now, isSettled, before, said)
	return found.After(before, now)
}

// look finds what is claimed now.
func (s *sidecar) look() {
	if s.dead || s.told || s.ended || len(s.w.set.frontends) == 0 {
		return
	}
	f, now, rules := &s.finder, time.Now(), s.w.rules()
	said := s.w.candidates(s.view.snap)
	look := f.tracker.Look(rules, now, true, f.found, said)
	again := look.Again
	if look.HasHeard {
		f.heardAt = s.w.now()
	}
	if look.IsDue {
		s.setFound(look.Found, look.HasHeard)
		again = f.found.Until(rules.Grace, f.tracker.IsSettled, now, again)
	}
	f.planned++
	n := f.planned
	s.w.after(again, func() {
		if n == f.planned {
			s.look()
		}
	})
}

// setFound has the loop go on with what was found. hasHeard says that Consul has answered for
// more services since.
func (s *sidecar) setFound(found route.Found, hasHeard bool) {
	f, before := &s.finder, s.finder.found
	f.found = found.After(before, time.Now())
	set := s.settings
	set.Automatic, set.OnlyRoutes = true, f.found.HasServicesOf(before)
	if set.OnlyRoutes && len(s.w.rules().Changes(f.found, before)) == 0 && !hasHeard {
		return
	}
	if !set.OnlyRoutes {
		f.tracker.Pace.ServicesChanged(time.Now())
	}
	if set.OnlyRoutes = set.OnlyRoutes && (!hasHeard || len(f.found.Gone) == 0); !set.OnlyRoutes {
		s.hidden, s.hiddenAt = !s.w.hasFound(f.found), s.w.now()
		set.Services = s.w.set.with(f.found, f.tracker.Unheard)
	}
	set.Renderer, set.Maps = s.withRoutes(f.found)
	set.Unheard = f.isUnheard()
	routes := make([]route.FoundRoute, 0, len(f.found.Routes))
	for _, r := range f.found.Routes {
		routes = append(routes, *r)
	}
	s.w.note("sidecar: finds %v %v %v", f.found.Services, routes, f.found.Gone)
	s.settings, s.need, s.clean = set, need{}, false
	s.settings.Automatic, s.settings.OnlyRoutes = false, false
	s.w.disturb()
	s.agent.Reconfigure(set)
}

// isUnheard tells the loop of which backends Consul has not answered.
func (f *finder) isUnheard() func(string) bool {
	if f.tracker.Unheard.IsEmpty() {
		return nil
	}
	return f.tracker.Unheard.Has // each service's backend has its name
}

// knowsClaims reports whether the pass of the loop began after Consul had said what is claimed.
// Before, it keeps what services may claim. One that began at that moment may know it.
func (s *sidecar) knowsClaims() bool {
	return s.finder.tracker.Unheard.IsEmpty() && s.passed > s.finder.heardAt
}

func (s *sidecar) mayKnowClaims() bool {
	return s.finder.tracker.Unheard.IsEmpty() && s.passed >= s.finder.heardAt
}

// withRoutes has the loop keep what services may claim until Consul has said that.
func (s *sidecar) withRoutes(found route.Found) (*renderer, []reconcile.RouteMap) {
	r, all := s.w.withRoutes(found)
	rules := s.w.rules()
	for i := range all {
		frontend := all[i].Frontend
		all[i].Keep = func(e route.Entry) bool { return rules.MayHave(frontend, e.Key, backendOf(e.Value)) }
	}
	return r, all
}

// foundBy is what is found by new settings.
func (s *sidecar) foundBy() route.Found {
	if len(s.w.set.frontends) == 0 {
		return route.Found{}
	}
	now, f := time.Now(), &s.finder
	f.tracker.Finder.Forget()
	said := s.w.candidates(catalog.Snapshot{})
	if f.tracker.IsSettled {
		said = s.w.candidates(s.view.snap)
	}
	rules := s.w.rules()
	for i := range rules.Frontends {
		left := map[string]string{}
		for at, r := range f.operator {
			if at.frontend == rules.Frontends[i].Name {
				left[at.key] = r.Backend
			}
		}
		rules.Frontends[i].Left = left
	}
	f.operator = maps.Clone(s.w.operator)
	found, _ := route.Discover(rules, now, f.tracker.IsSettled, f.found, said)
	return found.After(f.found, now)
}

// hasFound reports whether the service that is discovered, if there is one, was found.
func (w *world) hasFound(found route.Found) bool {
	return slices.ContainsFunc(w.set.services, func(svc plan.Service) bool {
		return isDiscovered(svc) && slices.ContainsFunc(found.Services, func(s route.FoundService) bool { return s.Name == svc.Name })
	})
}

// withRoutes returns what is rendered and what the maps are to have, with what was found.
func (w *world) withRoutes(found route.Found) (*renderer, []reconcile.RouteMap) {
	if len(w.set.frontends) == 0 {
		return w.disk.renderer, nil
	}
	r, out := *w.disk.renderer, []reconcile.RouteMap(nil)
	r.found, r.maps = found, map[string]route.Table{}
	for _, frontend := range w.set.frontends {
		var routes []route.Route
		for _, at := range sortedKeys(w.operator) {
			if at.frontend == frontend {
				routes = append(routes, w.operator[at])
			}
		}
		for _, f := range found.Routes {
			if f.Frontend == frontend {
				routes = append(routes, f.Route(f.Service))
			}
		}
		m := reconcile.RouteMap{Frontend: frontend, File: mapFile(frontend)}
		compiled, _ := route.Compile(routes)
		m.Want = compiled.Table()
		for _, x := range routes {
			m.Routes = append(m.Routes, reconcile.RouteState{Host: cmp.Or(x.Host, "*"), Path: cmp.Or(x.Path, "/"), Backend: x.Backend, Strip: x.Strip})
		}
		r.maps[m.File] = m.Want
		out = append(out, m)
	}
	return &r, out
}

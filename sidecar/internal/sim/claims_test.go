package sim

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// The instances of a service claim routes by their tags. In some histories HAProxy has
// frontends that lead requests by them, and by routes of the settings.

// discoveredDefaults is where a service that is discovered gets its settings from.
const discoveredDefaults = "pointsman.profile.web"

func isDiscovered(svc plan.Service) bool { return svc.Defaults != "" }

// drawRoutes returns some histories frontends; in some of those the second service is one
// that is discovered by what it claims.
func (s *scenario) drawRoutes(r *rand.Rand) {
	n := r.IntN(3)
	if len(s.services) < 2 || n == 2 {
		return
	}
	s.frontends = []string{"web", "admin"}[:1+r.IntN(2)]
	if n == 1 {
		return
	}
	svc := &s.services[1]
	svc.Defaults, svc.Mode = discoveredDefaults, "http"
	svc.ForceSlots, svc.Static = false, false
	if hasWord(svc.Options, "namespace") {
		svc.Options = "check"
	}
	delete(s.refuses, svc.Backend)
}

// adminOnly is the service that the frontend admin takes routes from.
const adminOnly = "api"

// places is what instances claim; one is none.
var places = []string{"a.test", "a.test/v1", "a.test/v1 strip", "b.test", "*.test/v1", "no host"}

// drawTags is what the instances that start from now on claim.
func (w *world) drawTags() (tags []string) {
	for _, frontend := range w.set.frontends {
		for range w.eventRNG.IntN(3) {
			tags = append(tags, frontend+"="+pick(w.eventRNG, places...))
		}
	}
	return tags
}

// claims returns what the instances of a service say, each once with the lowest index.
func (c *consul) claims(service string) (out []catalog.Claim) {
	since := map[string]uint64{}
	for _, r := range c.services[service] {
		for _, tag := range r.tags {
			if was, has := since[tag]; !has || r.created < was {
				since[tag] = r.created
			}
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(since)) {
		out = append(out, catalog.Claim{Text: tag, Since: since[tag]})
	}
	return out
}

// rules is what an operator allows, with the routes of the settings.
func (w *world) rules() route.Rules {
	r := route.Rules{Own: map[string]string{}, Refuse: func(string) error { return nil }, Grace: grace, MaxServices: 10, MaxRoutes: 10}
	for _, frontend := range w.set.frontends {
		f := route.FrontendRules{Name: frontend, TagPrefix: frontend + "=", Allow: []route.Allow{{Host: "*", Services: "*"}}, Settings: map[string]bool{}}
		if frontend == "admin" {
			f.Allow[0].Services = adminOnly
		}
		for at := range w.operator {
			if at.frontend == frontend {
				f.Settings[at.key] = true
			}
		}
		r.Frontends = append(r.Frontends, f)
	}
	for _, svc := range w.set.services {
		if !isDiscovered(svc) {
			r.Own[svc.Name] = ""
		}
	}
	return r
}

// routeKey is one route, or an entry of a map.
type routeKey struct{ frontend, key string }

// String names it in the trace.
func (k routeKey) String() string { return k.frontend + " " + k.key }

// claimed returns what a service may have of what it claims, and the values that the map may
// have then: two instances may want other parts of the path.
func (w *world) claimed(s catalog.Service) map[routeKey][]string {
	out := map[routeKey][]string{}
	for _, c := range s.Claims {
		frontend, text, _ := strings.Cut(c.Text, "=")
		r, err := route.ParseClaim(text)
		if r.Backend = s.Name; err != nil || frontend == "admin" && s.Name != adminOnly {
			continue
		}
		at := routeKey{frontend, r.Key()}
		out[at] = append(out[at], r.Value())
	}
	return out
}

// noteClaims notes since when each route is claimed, and that nothing is promised of those
// that are not any more.
func (c *consul) noteClaims(service string) {
	now := c.w.claimed(c.answer(service).Service)
	for at := range now {
		if c.claimedSince[at][service] == 0 {
			if c.claimedSince[at] == nil {
				c.claimedSince[at] = map[string]uint64{}
			}
			c.claimedSince[at][service] = c.index
		}
	}
	for at, by := range c.claimedSince {
		if _, still := now[at]; !still {
			delete(by, service)
			if c.w.liveRoutes[at].service == service {
				delete(c.w.liveRoutes, at)
			}
		}
	}
}

// newTags: the next version of a service claims something else, and is deployed.
func (w *world) newTags() {
	s := w.anyService()
	w.tags[s] = w.drawTags()
	w.note("instances of %s that start from here on claim %q", s, w.tags[s])
	w.deployOf(s)
}

// reclaim: an instance is registered again, with other tags.
func (w *world) reclaim(n *node) {
	n.tags = w.drawTags()
	w.consul.change(n, "claims "+strings.Join(n.tags, " ")+":", func(r *registration) { r.tags = n.tags })
}

// operatorRoutes: the settings get a route, or lose one.
func (w *world) operatorRoutes() {
	w.drawOperatorRoute()
	w.reconfigure()
}

func (w *world) drawOperatorRoute() {
	r, _ := route.ParseClaim(pick(w.eventRNG, "a.test", "a.test/v1", "b.test"))
	r.Backend = w.set.services[0].Backend
	at := routeKey{pick(w.eventRNG, w.set.frontends...), r.Key()}
	if w.operator[at] = r; w.maybe(0.5) {
		delete(w.operator, at)
	}
	w.ordained[at] = w.now()
	delete(w.liveRoutes, at)
	w.note("the route %s of the settings leads to %q", at, w.operator[at].Backend)
}

// manualMap: another program changes a map, in HAProxy or on disk.
func (w *world) manualMap() {
	frontend, key := pick(w.eventRNG, w.set.frontends...), pick(w.eventRNG, "a.test/", "a.test/v1/", "b.test/", "other.test/")
	what, value := w.eventRNG.IntN(6), pick(w.eventRNG, "api", "web", "none")
	if what == 0 {
		w.disk.maps[mapFile(frontend)], w.disk.foreignMaps = []route.Entry{{Key: key, Value: value}}, true
		w.note("a foreign program writes the map of %s: %v", frontend, w.disk.maps[mapFile(frontend)])
		return
	}
	if !w.proxy.running || w.proxy.worker.tables[mapFile(frontend)] == nil {
		return
	}
	t := w.proxy.worker.tables[mapFile(frontend)]
	switch t.foreign = w.now(); what {
	case 1:
		t.entries = nil
	case 2:
		_ = w.proxy.change(t, route.Change{Kind: route.Del, Key: key})
	case 3:
		_ = w.proxy.change(t, route.Change{Kind: route.Set, Key: key, Value: value})
	default:
		_ = w.proxy.change(t, route.Change{Kind: route.Add, Key: key, Value: value})
	}
	maps.DeleteFunc(w.liveRoutes, func(at routeKey, _ live) bool { return at.frontend == frontend })
	w.note("a foreign program changes the map of %s: %v", frontend, t.entries)
}

// sortedKeys returns the routes in one order.
func sortedKeys[V any](of map[routeKey]V) []routeKey {
	return slices.SortedFunc(maps.Keys(of), func(a, b routeKey) int {
		return cmp.Or(cmp.Compare(a.frontend, b.frontend), cmp.Compare(a.key, b.key))
	})
}

// populateRoutes draws what the settings and the first instances say.
func (w *world) populateRoutes() {
	if len(w.set.frontends) == 0 {
		return
	}
	for _, s := range w.set.services {
		w.tags[s.Name] = w.drawTags()
	}
	if w.maybe(0.5) {
		w.drawOperatorRoute()
	}
}

// discovered is the service that is discovered, if there is one, as one that was found.
func (w *world) discovered() (found []route.FoundService) {
	for _, svc := range w.set.services {
		if isDiscovered(svc) {
			found = append(found, route.FoundService{Name: svc.Name})
		}
	}
	return found
}

package reconcile

import (
	"maps"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// unroutable has the backends to which no request is to be led yet: HAProxy does not have
// them, or a first server is awaited.
func (a *Agent) unroutable() map[string]bool {
	out := map[string]bool{}
	for _, s := range a.set.Services {
		if b, exists := a.known.observed.Backends[s.Backend]; s.Defaults != "" && (!exists || b.Unpublished) {
			out[s.Backend] = true
		}
	}
	for backend := range a.isolated.left { // it is not in the settings then
		if _, exists := a.known.observed.Backends[backend]; !exists {
			out[backend] = true
		}
	}
	return out
}

// goneWithServers has the services, by name, whose backend is on its way out and has servers.
func (a *Agent) goneWithServers() map[string]bool {
	out := map[string]bool{}
	for _, s := range a.set.Services {
		if s.Gone && len(a.known.observed.Backends[s.Backend].Servers) > 0 {
			out[s.Name] = true
		}
	}
	return out
}

// withoutRoutesTo returns the routes that do not lead to these backends.
func withoutRoutesTo(backends map[string]bool, want route.Table) route.Table {
	if len(backends) == 0 {
		return want
	}
	return slices.DeleteFunc(slices.Clone(want), func(e route.Entry) bool { return leadsTo(backends, e) })
}

// leadsTo reports whether a route leads to one of these backends.
func leadsTo(backends map[string]bool, e route.Entry) bool { return backends[backendOf(e)] }

// backendOf is where a line of a map leads.
func backendOf(e route.Entry) string {
	backend, _, _ := strings.Cut(e.Value, "/")
	return backend
}

// withheld is those of the backends that a route leads to.
func withheld(backends map[string]bool, routes []RouteState) (out []string) {
	if len(backends) == 0 {
		return nil
	}
	left := maps.Clone(backends)
	for i := range routes {
		if b := routes[i].Backend; left[b] {
			out = append(out, b)
			delete(left, b)
		}
	}
	slices.Sort(out)
	return out
}

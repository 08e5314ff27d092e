package reconcile

import (
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// withGone adds the backends that other settings had and that HAProxy may take away as it
// runs: they go step by step, after their servers.
func withGone(s Settings, before []plan.Service) Settings {
	s.Services = slices.Clone(s.Services)
	n := len(s.Services)
	for _, was := range before {
		isKept := slices.ContainsFunc(s.Services[:n], func(is plan.Service) bool { return is.Backend == was.Backend })
		if was.Defaults != "" && !isKept {
			was.Gone = true
			s.Services = append(s.Services, was)
		}
	}
	return s
}

// forgetGone drops the backends that have gone.
func (a *Agent) forgetGone() {
	o := a.known.observed
	isOver := func(s plan.Service) bool {
		_, exists := o.Backends[s.Backend]
		return s.Gone && (!exists || !o.Running) // the file does not have it
	}
	if !slices.ContainsFunc(a.set.Services, isOver) {
		return
	}
	a.set.Services = slices.DeleteFunc(slices.Clone(a.set.Services), isOver)
	a.known.keep(a.known.backends(a.set))
}

// unroutable has the backends to which no request is to be led yet: HAProxy does not have
// them, or a first server is awaited.
func (a *Agent) unroutable() map[string]bool {
	out := map[string]bool{}
	for _, s := range a.set.Services {
		if b, exists := a.known.observed.Backends[s.Backend]; s.Defaults != "" && (!exists || b.Unpublished) {
			out[s.Backend] = true
		}
	}
	return out
}

// withoutRoutesTo gives the routes that do not lead to these backends.
func withoutRoutesTo(backends map[string]bool, want route.Map) route.Map {
	if len(backends) == 0 {
		return want
	}
	out := make(route.Map, len(want))
	for key, value := range want {
		if backend, _, _ := strings.Cut(value, "/"); !backends[backend] {
			out[key] = value
		}
	}
	return out
}

package api

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds how many gather the metrics at once; more get a 503.
const maxScrapes = 4

// routes is everything that the server answers, by path; one that ends in a star is
// the beginning of others.
func routes(o Options) (map[string]http.Handler, error) {
	metrics := promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             writeTimeout / 2,
	})
	paths := map[string]http.Handler{
		"/healthz":      health(o.Alive, o.Summary),
		"/readyz":       readiness(o.Ready),
		"/metrics":      metrics,
		"/api/v1/state": state(o.State),
	}
	if err := addPage(paths); err != nil {
		return nil, err
	}
	if o.Watch != nil {
		p := newPolls(o.LoadBalancer, o.Watch, o.Attend, o.Drained)
		drain, err := signing(o, http.HandlerFunc(p.drain))
		if err != nil {
			return nil, err
		}
		paths["/api/v1/drain/*"] = drain
		paths["/api/v1/live/*"] = http.HandlerFunc(p.live)
	}
	if o.Parts != nil && o.Watch != nil {
		paths["/api/v1/state/stream"] = stateStream(o.LoadBalancer, o.Parts, o.Watch)
	}
	if o.Short != nil {
		paths["/api/v1/summary"] = state(o.Short)
	}
	if o.Fleet != nil {
		paths["/api/v1/fleet"] = fleet(o.Fleet)
	}
	if o.Counters != nil {
		paths["/api/v1/counters/*"] = serviceCounters(o.LoadBalancer, o.Counters)
	}
	if o.Decisions != nil {
		paths["/api/v1/decisions"] = oneAtATime(state(o.Decisions))
	}
	if o.Deployments != nil {
		paths["/api/v1/deployments"] = recorded(o.Deployments)
	}
	if o.Rollouts != nil {
		paths["/api/v1/rollouts"] = recorded(o.Rollouts)
	}
	if o.Events != nil {
		paths["/api/v1/events"] = newEvents(o.LoadBalancer, o.Events)
	}
	if o.Release != nil {
		paths["/api/v1/guard/*"] = release(o.LoadBalancer, o.Access.asksToken(), o.Release)
	}
	if o.SetDrain != nil {
		paths["/api/v1/server/*"] = operatorDrain(o.LoadBalancer, o.Access.asksToken(), o.SetDrain)
	}
	if o.SetMaintenance != nil {
		paths["/api/v1/maintenance/*"] = maintenance(o.LoadBalancer, o.Access.asksToken(), o.SetMaintenance)
	}
	if o.Paused != nil {
		paths["/api/v1/pauses/*"] = paused(o.LoadBalancer, o.Paused)
	}
	if o.SetPause != nil {
		paths["/api/v1/service/*"] = setPause(o.Access.asksToken(), o.SetPause)
	}
	if o.RequestReload != nil {
		paths["/api/v1/reload"] = reload(o.LoadBalancer, o.Access.asksToken(), o.RequestReload)
	}
	if o.ChangeRollout != nil {
		paths["/api/v1/rollouts/*"] = changeRollout(o.Access.asksToken(), o.RolloutChanges, o.ChangeRollout)
	}
	return paths, nil
}

// find returns the handler of a path. What stands for the star of a path that
// ends in one is the request's path value "rest".
func find(paths map[string]http.Handler, r *http.Request) (http.Handler, bool) {
	if h, found := paths[r.URL.Path]; found {
		return h, !strings.HasSuffix(r.URL.Path, "*")
	}
	for path, h := range paths {
		if prefix, has := strings.CutSuffix(path, "*"); has && strings.HasPrefix(r.URL.Path, prefix) {
			r.SetPathValue("rest", r.URL.Path[len(prefix):])
			return h, true
		}
	}
	return nil, false
}

// dispatch answers GET and HEAD on exactly these paths, and POST where it is an
// action.
func dispatch(paths map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		handler, found := find(paths, r)
		_, acts := handler.(action)
		switch {
		case !found:
			writeJSON(w, http.StatusNotFound, problem{"no such page"})
		case acts && r.Method != http.MethodPost:
			w.Header().Set("Allow", "POST")
			writeJSON(w, http.StatusMethodNotAllowed, problem{"only POST is allowed"})
		case acts:
			handler.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeJSON(w, http.StatusMethodNotAllowed, problem{"only GET and HEAD are allowed"})
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

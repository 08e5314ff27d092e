package api

import (
	"context"
	"net/http"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Counters reads those of a service, without the name of the load balancer; isKnown is false
// for one that this load balancer does not route.
type Counters func(ctx context.Context, service string) (counters sidecarapi.Counters, isKnown bool, err error)

// countersTimeout is how long HAProxy may take to tell.
const countersTimeout = 5 * time.Second

// serviceCounters answers /api/v1/counters/{service}.
func serviceCounters(name string, read Counters) http.Handler {
	return ofService(name, "/api/v1/counters/", func(ctx context.Context, service string) (any, bool, error) {
		counters, isKnown, err := read(ctx, service)
		counters.LoadBalancer, counters.Service = name, service
		return counters, isKnown, err
	})
}

// ofService answers with what HAProxy tells of the service whose name is behind a path; 404
// where this load balancer does not route it.
func ofService(name, path string, read func(ctx context.Context, service string) (body any, isKnown bool, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := r.PathValue("rest")
		if !isName(service) {
			writeJSON(w, http.StatusBadRequest, problem{"want " + path + "{service}"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), countersTimeout)
		defer cancel()
		body, isKnown, err := read(ctx, service)
		switch {
		case !isKnown:
			writeJSON(w, http.StatusNotFound, unroutedAnswer{name, problem{"service not routed"}})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, body)
		}
	})
}

package api

import (
	"context"
	"net/http"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Counters reads those of a service; isKnown is false for one that this load balancer
// does not route.
type Counters func(ctx context.Context, service string) (counters []sidecarapi.InstanceCounters, isKnown bool, err error)

// countersTimeout is how long HAProxy may take to tell.
const countersTimeout = 5 * time.Second

// serviceCounters answers /api/v1/counters/{service}.
func serviceCounters(name string, read Counters) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := r.PathValue("rest")
		if !isName(service) {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/counters/{service}"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), countersTimeout)
		defer cancel()
		instances, isKnown, err := read(ctx, service)
		switch {
		case !isKnown:
			writeJSON(w, http.StatusNotFound, unroutedAnswer{name, problem{"service not routed"}})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, sidecarapi.Counters{LoadBalancer: name, Service: service, Instances: instances})
		}
	})
}

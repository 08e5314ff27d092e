package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Paused tells whether a service is paused, and what is under way; isKnown is false for one
// that this load balancer does not route.
type Paused func(ctx context.Context, service string) (p sidecarapi.Pause, isKnown bool, err error)

// SetPause pauses a service for a time, in Consul, or ends its pause where that is 0, and
// gives the body of the answer. isRefused is true where the service cannot be paused, and
// where others have changed its pause at the same time.
type SetPause func(ctx context.Context, service string, hold time.Duration, reason string) (body any, isRefused bool, err error)

// paused answers /api/v1/pauses/{service}.
func paused(name string, read Paused) http.Handler {
	return ofService(name, "/api/v1/pauses/", func(ctx context.Context, service string) (any, bool, error) {
		return read(ctx, service)
	})
}

// setPause answers /api/v1/service/{service}/pause and …/resume, to those who may release
// the guard.
func setPause(byToken bool, set SetPause) action {
	return func(w http.ResponseWriter, r *http.Request) {
		service, what, _ := strings.Cut(r.PathValue("rest"), "/")
		if !isName(service) || what != "pause" && what != "resume" {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/service/{service}/pause?hold=30s or …/resume"})
			return
		}
		var hold time.Duration
		if what == "pause" {
			var err error
			if hold, err = time.ParseDuration(r.URL.Query().Get("hold")); err != nil || hold <= 0 {
				writeJSON(w, http.StatusBadRequest, problem{"hold: want a duration such as 30s"})
				return
			}
		}
		act(w, r, byToken, http.StatusConflict, func(ctx context.Context) (any, bool, error) {
			return set(ctx, service, hold, r.URL.Query().Get("reason"))
		})
	}
}

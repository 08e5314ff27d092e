package api

import (
	"context"
	"errors"
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

// InvalidError is an error of the request itself: it is answered with 400.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// paused answers /api/v1/pauses/{service}.
func paused(name string, read Paused) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := r.PathValue("rest")
		if !isName(service) {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/pauses/{service}"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), countersTimeout)
		defer cancel()
		p, isKnown, err := read(ctx, service)
		switch {
		case !isKnown:
			writeJSON(w, http.StatusNotFound, unroutedAnswer{name, problem{"service not routed"}})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, p)
		}
	})
}

// setPause answers /api/v1/service/{service}/pause and …/resume, to those who may release
// the guard.
func setPause(byToken bool, set SetPause) action {
	return action{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		if !mayAct(w, r, byToken) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), sidecarapi.ActionTimeout)
		defer cancel()
		body, isRefused, err := set(ctx, service, hold, r.URL.Query().Get("reason"))
		_, isInvalid := errors.AsType[*InvalidError](err)
		switch {
		case isInvalid:
			writeJSON(w, http.StatusBadRequest, problem{err.Error()})
		case isRefused:
			writeJSON(w, http.StatusConflict, problem{err.Error()})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, body)
		}
	})}
}

package api

import (
	"context"
	"net/http"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// SetMaintenance takes this load balancer out of rotation or back, and returns once
// haproxy.cfg says so, too. isKnown is false where HAProxy has no health answer to change.
type SetMaintenance func(ctx context.Context, on bool) (isKnown bool, err error)

// Maintained is the body of /api/v1/maintenance/on and …/off.
type Maintained struct {
	LoadBalancer string `json:"load_balancer"`
	Maintenance  bool   `json:"maintenance"`
}

// maintenance answers /api/v1/maintenance/on and …/off, to those who may release the
// guard.
func maintenance(name string, byToken bool, set SetMaintenance) action {
	return action{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		word := r.PathValue("rest")
		if word != "on" && word != "off" {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/maintenance/on or …/off"})
			return
		}
		if !mayAct(w, r, byToken) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), sidecarapi.ActionTimeout)
		defer cancel()
		isKnown, err := set(ctx, word == "on")
		switch {
		case !isKnown:
			writeJSON(w, http.StatusNotFound, problem{err.Error()})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, Maintained{LoadBalancer: name, Maintenance: word == "on"})
		}
	})}
}

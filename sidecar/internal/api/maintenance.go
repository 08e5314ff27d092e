package api

import (
	"context"
	"net/http"
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
	return func(w http.ResponseWriter, r *http.Request) {
		word := r.PathValue("rest")
		if word != "on" && word != "off" {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/maintenance/on or …/off"})
			return
		}
		act(w, r, byToken, http.StatusNotFound, func(ctx context.Context) (any, bool, error) {
			isKnown, err := set(ctx, word == "on")
			return Maintained{LoadBalancer: name, Maintenance: word == "on"}, !isKnown, err
		})
	}
}

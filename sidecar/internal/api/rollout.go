package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ChangeRollout makes one of Options.RolloutChanges to the rollout of a service, in Consul, and gives
// the body of the answer. seen is when the rollout had last been changed that the client has
// seen; zero is any. isRefused is true where it has been changed since, and where the
// rollout does not allow the change as it is.
type ChangeRollout func(ctx context.Context, service, change string, seen time.Time) (body any, isRefused bool, err error)

// changeRollout answers /api/v1/rollouts/{service}/{change}, to those who may release the
// guard.
func changeRollout(byToken bool, changes []string, change ChangeRollout) action {
	return func(w http.ResponseWriter, r *http.Request) {
		service, what, _ := strings.Cut(r.PathValue("rest"), "/")
		if !isName(service) || !slices.Contains(changes, what) {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/rollouts/{service}/" + strings.Join(changes, " or …/")})
			return
		}
		var seen time.Time
		if text := r.URL.Query().Get("modified_at"); text != "" {
			var err error
			if seen, err = time.Parse(time.RFC3339Nano, text); err != nil {
				writeJSON(w, http.StatusBadRequest, problem{"modified_at: want that of the rollout's document, such as 2026-11-30T12:00:00.5Z"})
				return
			}
		}
		act(w, r, byToken, http.StatusConflict, func(ctx context.Context) (any, bool, error) {
			return change(ctx, service, what, seen)
		})
	}
}

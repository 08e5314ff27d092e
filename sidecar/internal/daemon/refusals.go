package daemon

import (
	"errors"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// ActionState is an action of the API, and whether the one who has the token may ask for it.
type ActionState struct {
	Action  string `json:"action"`            // drain, guard, maintenance, pause, reload or rollout
	Refused string `json:"refused,omitempty"` // why it is refused; of which server or rollout it is, is said with these
}

var (
	errNoActions = errors.New("actions need the bearer token (api.token_file), or pointsman on the load balancer's machine")
	// ErrNoAnswer says that there is no health answer that maintenance could change.
	ErrNoAnswer = errors.New("haproxy.health.bind is not set, so there is no health answer to change")
	errNoPause  = errors.New("no service has pause.max, so none can be paused")
)

// actions are those of the API as things are. The API asks for the token of the settings
// at the start.
func actions(started, now config.Config, s *reconcile.State) []ActionState {
	isTokenAsked := started.API.Token.Reveal() != "" || started.API.TokenFile != ""
	refused := map[string]error{}
	if !InRotation(now) {
		refused["maintenance"] = ErrNoAnswer
	}
	if pausable(now) == nil {
		refused["pause"] = errNoPause
	}
	if !s.HAProxy.Running {
		refused["reload"] = reconcile.ErrNothingToReload
	}
	out := []ActionState{}
	for _, name := range []string{"drain", "guard", "maintenance", "pause", "reload", "rollout"} {
		a := ActionState{Action: name}
		if err := refused[name]; !isTokenAsked {
			a.Refused = errNoActions.Error()
		} else if err != nil {
			a.Refused = err.Error()
		}
		out = append(out, a)
	}
	return out
}

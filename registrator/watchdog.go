package registrator

import (
	"context"
	"errors"

	"github.com/hashicorp/consul/api"
)

// watchdog looks whether the agent still knows the service, and registers it
// again if it has forgotten: an agent does so when it restarts without its
// data, and forgets a service whose check was critical for too long. A check
// that was critical when it was last seen begins so then: else a program that
// hangs would get traffic again, until its check has failed once more.
type watchdog struct {
	r *Registration
	// lost is why the agent could not be asked the last time, or nil. Only the
	// loop's goroutine uses it.
	lost error
}

// look asks once.
func (w *watchdog) look() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, _, err := w.r.agent.Service(w.r.config.ID, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err == nil:
		w.r.seen.look(ctx, w.r.agent, w.r.config.ID)
	case isNotFound(err):
		err = w.r.register(ctx)
		if err == nil {
			w.r.log.Info("the agent had forgotten the service: registered again", "critical", w.r.seen.names())
		}
	}
	w.note(err)
}

// note logs when the agent is lost, and when it is back.
func (w *watchdog) note(err error) {
	switch {
	case errors.Is(err, ErrLeft):
		return // leaving began while it looked
	case err != nil && w.lost == nil:
		w.r.log.Warn("the agent cannot be asked; trying on", "error", err)
	case err == nil && w.lost != nil:
		w.r.log.Info("the agent answers again", "was", w.lost)
	}
	w.lost = err
}

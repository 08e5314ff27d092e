package registrator

import (
	"context"
	"errors"
	"time"

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

	exclusive exclusive
}

// look asks once. A registration of another process is left alone, until that
// one has gone or begins to leave.
func (w *watchdog) look() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	now, err := w.r.held(ctx)
	switch {
	case err != nil:
	case now == nil:
		err = w.again(ctx, "registration lost by agent, registered again")
	case w.r.config.Exclusive:
		w.r.seen.look(ctx, w.r.agent, w.r.config.ID)
		err = w.restore(ctx, now)
	case w.r.owns(now):
		w.r.setTaken(false)
		w.r.seen.look(ctx, w.r.agent, w.r.config.ID)
	case isLeaving(now):
		err = w.again(ctx, "ID free again, registered again")
	case w.r.setTaken(true):
		w.r.log.Warn("ID taken by another process, no traffic here", w.r.about(now)...)
	}
	w.note(err)
}

// restore registers again what another has changed, with another time: the agent
// brings to the catalog only what differs from what it has itself.
func (w *watchdog) restore(ctx context.Context, now *api.AgentService) error {
	what, changed := w.exclusive.changed(ctx, now)
	if what == "" {
		return nil
	}
	w.r.setSince(time.Now())
	err := w.r.register(ctx)
	if err == nil && w.exclusive.isNews(what) {
		w.r.log.Warn("registration was changed by another, restored", append([]any{"changed", what}, w.r.about(changed)...)...)
	}
	return err
}

func (w *watchdog) again(ctx context.Context, message string) error {
	err := w.r.register(ctx)
	if err == nil {
		w.r.setTaken(false)
		w.r.log.Info(message, "critical", w.r.seen.names())
	}
	return err
}

// note logs when the agent is lost, and when it is back.
func (w *watchdog) note(err error) {
	switch {
	case errors.Is(err, ErrLeft):
		return // leaving began while it looked
	case err != nil && w.lost == nil:
		w.r.log.Warn("Consul agent unreachable, retrying", "error", err)
	case err == nil && w.lost != nil:
		w.r.log.Info("Consul agent reachable again", "was", w.lost)
	}
	w.lost = err
}

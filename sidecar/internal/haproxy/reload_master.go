package haproxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// reloadByMaster sends `reload`. Since 2.7 the answer comes when it is done,
// with its result; 2.6 says nothing and starts itself again meanwhile. The
// function that it gives tells, where the master can, that the reload failed.
func (c *Client) reloadByMaster(ctx context.Context) (failed func() error, err error) {
	before, err := c.awaitMaster(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline() // Reload has set one
	reply, err := c.tellMaster(ctx, "reload", time.Until(deadline))
	if errors.Is(err, plan.ErrNotRunning) || errors.Is(err, ErrPermission) {
		return nil, err
	}
	// Any other error is no verdict: the master may close the connection when
	// it starts itself again.
	switch result, logs, _ := strings.Cut(reply, "\n"); {
	case strings.HasPrefix(result, "Success=0"):
		return nil, refused(logLines(logs))
	case strings.HasPrefix(result, "Success=1"):
		return func() error { return nil }, nil
	case strings.TrimSpace(reply) != "" && !strings.HasPrefix(reply, "Success"): // one that is cut off is no verdict
		return nil, &ReloadError{Reason: "the master's answer", Err: unexpected(reply)}
	}
	return func() error { return c.masterFailed(ctx, before) }, nil
}

// awaitMaster asks the master for its workers. It does not listen for a moment
// after its start and, on 2.6, while it loads its file again; a worker serves
// meanwhile, so that is waited for.
func (c *Client) awaitMaster(ctx context.Context) (processes, error) {
	var gone stopwatch
	for {
		p, err := c.showProc(ctx)
		if gone.runs(errors.Is(err, plan.ErrNotRunning)) > c.timeout || !errors.Is(err, plan.ErrNotRunning) {
			return p, err
		}
		select {
		case <-ctx.Done():
			return processes{}, err
		case <-time.After(firstPoll):
		}
	}
}

// masterFailed reports whether the master has loaded its file again since and
// has no new worker for it. 2.6 keeps its messages to its own log, and so the
// worst is to be taken for it; a newer one repeats them, where its answer to
// the reload was lost.
func (c *Client) masterFailed(ctx context.Context, before processes) error {
	now, err := c.showProc(ctx)
	if err != nil || now.reloads <= before.reloads || now.failed == 0 {
		return nil //nolint:nilerr // no verdict: the master does not listen while it starts itself again
	}
	known := before.all()
	for _, w := range now.all() {
		if !slices.ContainsFunc(known, func(k Worker) bool { return k.PID == w.PID }) {
			return nil
		}
	}
	if said, err := c.tellMaster(ctx, "show startup-logs", c.timeout); err == nil && strings.Contains(said, "[ALERT]") {
		return refused(logLines(said))
	}
	return &ReloadError{Reason: "HAProxy refused its file, perhaps because it cannot listen: its log says why", CannotListen: true}
}

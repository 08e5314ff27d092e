package haproxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// reloadByMaster sends `reload`. Since 2.7 the answer comes when it is done,
// with its result; 2.6 says nothing and starts itself again meanwhile.
func (c *Client) reloadByMaster(ctx context.Context) (requested, error) {
	before, err := c.awaitMaster(ctx)
	if err != nil {
		return requested{}, noMaster(err)
	}
	reply, err := c.sendReload(ctx)
	if isUnheard(err) || errors.Is(err, ErrPermission) {
		return requested{}, noMaster(err)
	}
	// Any other error is no verdict: the master may close the connection when
	// it starts itself again.
	switch result, logs, _ := strings.Cut(reply, "\n"); {
	case strings.HasPrefix(result, "Success=0"):
		return requested{}, refused(logLines(logs))
	case strings.HasPrefix(result, "Success=1"):
		return requested{failed: func() error { return nil }}, nil
	case strings.TrimSpace(reply) != "" && !strings.HasPrefix(reply, "Success"): // one that is cut off is no verdict
		return requested{}, &ReloadError{Reason: "the master's answer", Err: unexpected(reply)}
	}
	return requested{failed: func() error { return c.masterFailed(ctx, before) }, unanswered: true}, nil
}

// sendReload sends `reload` once the master listens and no other reload is under
// way there.
func (c *Client) sendReload(ctx context.Context) (reply string, err error) {
	deadline, _ := ctx.Deadline() // Reload has set one
	for {
		err = c.overRestart(ctx, restartGrace, isRefused, func() error {
			reply, err = c.tellMaster(ctx, "reload", time.Until(deadline))
			return err
		})
		if !strings.Contains(reply, otherReload) {
			return reply, err
		}
		select {
		case <-ctx.Done():
			return reply, err
		case <-time.After(lastPoll):
		}
	}
}

// otherReload is in the master's answer, since 3.1, while the worker of another
// reload starts.
const otherReload = "Another reload is still in progress"

// noMaster is the error of a reload that no master takes.
func noMaster(err error) error {
	return &ReloadError{Reason: "no master to ask", Err: err}
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
	if slices.ContainsFunc(now.all(), func(pid int) bool { return !slices.Contains(known, pid) }) {
		return nil
	}
	var said string
	err = c.overRestart(ctx, restartGrace, isRestart, func() (err error) {
		said, err = c.tellMaster(ctx, "show startup-logs", c.timeout)
		return err
	})
	if err == nil && strings.Contains(said, "[ALERT]") {
		return refused(logLines(said))
	}
	return &ReloadError{Reason: "HAProxy rejected its file, possibly because it cannot bind: see HAProxy's log", CannotListen: true}
}

package haproxy

import (
	"context"
	"errors"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Reload makes HAProxy load its file again, by the reload command or else by
// the master socket, and returns once a new worker answers whose marker is
// want (any, if want is zero). Otherwise the error is a *ReloadError, or one
// that wraps plan.ErrNotRunning if there was nothing to reload. It never takes
// longer than Options.ReloadTimeout, and two calls never overlap: the second
// waits.
func (c *Client) Reload(ctx context.Context, want plan.Marker) error {
	ctx, cancel := context.WithTimeout(ctx, c.reloadTimeout)
	defer cancel()
	select {
	case c.reloading <- struct{}{}:
		defer func() { <-c.reloading }()
	case <-ctx.Done():
		return &ReloadError{Reason: "another reload in progress", Err: ctx.Err()}
	}
	err := c.reload(ctx, want)
	c.onCommand("reload", err != nil)
	return err
}

func (c *Client) reload(ctx context.Context, want plan.Marker) error {
	if len(c.reloadCommand) == 0 && c.master == (endpoint{}) {
		return &ReloadError{Reason: "no master socket or reload command is set"}
	}
	before, err := c.identity(ctx)
	if isCutOff(err) { // by another reload
		before, err = c.identity(ctx)
	}
	if err != nil {
		return err
	}
	if err := c.requestAndAwait(ctx, before, want); err != nil {
		return err
	}
	if c.master != (endpoint{}) {
		// On 2.6 the worker answers before the master listens again, and the
		// next Observe asks the master for old workers.
		if _, err := c.awaitMaster(ctx); err != nil {
			c.log.Warn("HAProxy loaded its file, but its master does not answer", "error", err)
		}
	}
	return nil
}

// requested is a reload that HAProxy was asked for.
type requested struct {
	// failed tells early that no worker will come, where there is a way to know.
	failed func() error
	// unanswered: the master may not have read the line. It does not where
	// another reload has it start itself again just then.
	unanswered bool
}

// requestAndAwait asks for a reload and waits for the worker. It asks twice where
// the first worker may be that of another reload, which loaded the file before.
func (c *Client) requestAndAwait(ctx context.Context, before workerIdentity, want plan.Marker) error {
	for again := false; ; again = true {
		sent, err := c.request(ctx)
		if err != nil {
			return err
		}
		err = c.awaitWorker(ctx, awaited{before, want, sent.failed})
		if !errors.Is(err, errOtherConfiguration) || !sent.unanswered || again {
			return err
		}
		c.log.Info("reload requested again")
	}
}

func (c *Client) request(ctx context.Context) (requested, error) {
	if len(c.reloadCommand) > 0 {
		return c.reloadByCommand(ctx)
	}
	return c.reloadByMaster(ctx)
}

// identity asks who serves now.
func (c *Client) identity(ctx context.Context) (workerIdentity, error) {
	view, err := readWorker(ctx, c.ask, nil, maxCommandsOld)
	if err != nil {
		return workerIdentity{}, err
	}
	return workerIdentity{view.info, markerFrom(view.env)}, nil
}

// workerIdentity tells one worker from another.
type workerIdentity struct {
	info
	marker plan.Marker
}

// isNewerThan: a container that was started again may have the same process
// id, but it is younger then.
func (w workerIdentity) isNewerThan(o workerIdentity) bool {
	return w.pid != o.pid || w.uptime < o.uptime
}

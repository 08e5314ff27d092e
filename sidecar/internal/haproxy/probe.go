package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Probe asks once whether everything that is needed can be reached: the
// runtime socket, at level admin, and the master socket if one is set. The
// error names the socket and its place and wraps one of ErrNoSocket,
// ErrConnRefused, ErrPermission, ErrNotAdmin and ErrNotMaster, or says what
// else happened.
func (c *Client) Probe(ctx context.Context) error {
	if err := c.probeRuntime(ctx); err != nil {
		if c.master == (endpoint{}) && errors.Is(err, plan.ErrNotRunning) {
			err = withoutMaster(err)
		}
		return err
	}
	if c.master == (endpoint{}) {
		return nil
	}
	_, err := c.awaitMaster(ctx)
	if errors.Is(err, ErrUnexpectedReply) {
		return fmt.Errorf("%w: %w", err, ErrNotMaster)
	}
	return err
}

// probeRuntime goes by the runtime socket only: that the master could stand in
// for it is nothing to rely on.
func (c *Client) probeRuntime(ctx context.Context) error {
	i, replies, err := infoAnd(ctx, repeated(c.askRuntime), "runtime socket "+c.runtime.String(), "show cli level")
	if err != nil {
		return err
	}
	if level := strings.TrimSpace(replies[0]); level != "admin" {
		return fmt.Errorf("haproxy: runtime socket %s: level %s: %w", c.runtime, excerpt(level), ErrNotAdmin)
	}
	c.learn(i)
	return nil
}

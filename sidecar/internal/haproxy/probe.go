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
	if _, err := c.awaitMaster(ctx); errors.Is(err, ErrUnexpectedReply) {
		return fmt.Errorf("%w: %w", err, ErrNotMaster)
	} else if err != nil {
		return err
	}
	return nil
}

// probeRuntime goes by the runtime socket only: that the master could stand in
// for it is nothing to rely on.
func (c *Client) probeRuntime(ctx context.Context) error {
	text, err := repeated(c.askRuntime)(ctx, []string{"show info", "show cli level"})
	if err != nil {
		return err
	}
	replies, err := eachReply(text, 2)
	if err != nil {
		return fmt.Errorf("haproxy: runtime socket %s: %w", c.runtime, err)
	}
	i, err := parseInfo(replies[0])
	if err != nil {
		return fmt.Errorf("haproxy: runtime socket %s: %w", c.runtime, err)
	}
	if level := strings.TrimSpace(replies[1]); level != "admin" {
		return fmt.Errorf("haproxy: runtime socket %s: level %s: %w", c.runtime, excerpt(level), ErrNotAdmin)
	}
	c.learn(i)
	return nil
}

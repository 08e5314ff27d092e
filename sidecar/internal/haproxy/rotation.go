package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// ErrNoRotation says that HAProxy runs a configuration without the backend that
// knows whether it is in rotation.
var ErrNoRotation = errors.New("HAProxy has no backend " + plan.RotationBackend)

// SetMaintenance takes the load balancer out of rotation, or back, and returns
// once HAProxy shows it. Requests under way are not touched: all that changes
// is HAProxy's health answer.
func (c *Client) SetMaintenance(ctx context.Context, on bool) error {
	state := plan.Ready
	if on {
		state = plan.Maint
	}
	what := "set server " + plan.RotationBackend + "/" + plan.RotationServer + " state"
	text, err := c.ask(ctx, []string{what + " " + state.String()})
	if err != nil {
		return err
	}
	switch reply := tidy(text); {
	case strings.HasPrefix(reply, "No such "): // backend, or server
		return fmt.Errorf("haproxy: %s: %w: %s", what, ErrNoRotation, excerpt(reply))
	case reply != "":
		return fmt.Errorf("haproxy: %s: %w", what, unexpected(reply))
	}
	now, _, err := c.Maintenance(ctx)
	if err == nil && now != on {
		err = fmt.Errorf("haproxy: %s %s: command accepted, but state unchanged", what, state)
	}
	return err
}

// Maintenance reports whether the load balancer is out of rotation, and which worker
// says so. The error wraps ErrNoRotation where HAProxy cannot be.
func (c *Client) Maintenance(ctx context.Context) (on bool, pid int, err error) {
	o, err := c.Observe(ctx, []string{plan.RotationBackend})
	if err != nil {
		return false, 0, err
	}
	if _, exists := o.Backends[plan.RotationBackend]; !exists {
		return false, 0, fmt.Errorf("haproxy: %w", ErrNoRotation)
	}
	return o.WithMaintenance().Maintenance, o.PID, nil
}

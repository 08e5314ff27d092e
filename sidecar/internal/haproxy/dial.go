package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func dialEndpoint(ctx context.Context, e endpoint) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, e.network, e.address)
}

// dialError names what failed in words that say what to do about it.
func dialError(what string, e endpoint, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("haproxy: %s %s: %w: %w", what, e, ErrNoSocket, plan.ErrNotRunning)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("haproxy: %s %s: %w: %w", what, e, ErrConnRefused, plan.ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("haproxy: %s %s: %w", what, e, ErrPermission)
	}
	return fmt.Errorf("haproxy: %s %s: connect: %w", what, e, err)
}

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

func dialEndpoint(ctx context.Context, e endpoint) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, e.network, e.address)
}

// isUnheard reports whether no process listens there.
func isUnheard(err error) bool { return errors.Is(err, ErrNoSocket) || errors.Is(err, ErrConnRefused) }

// masterSocket is what an error calls the master's socket.
const masterSocket = "master socket"

// dialError names what failed in words that say what to do about it.
func dialError(what string, e endpoint, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = ErrNoSocket
	case errors.Is(err, syscall.ECONNREFUSED):
		err = ErrConnRefused
	case errors.Is(err, fs.ErrPermission):
		err = ErrPermission
	default:
		return fmt.Errorf("haproxy: %s %s: connect: %w", what, e, err)
	}
	if what == masterSocket && isUnheard(err) { // a file may be left of a HAProxy that had one
		return fmt.Errorf("haproxy: %s %s: %w (no HAProxy runs, or it was started without -S or with another path)", what, e, err)
	}
	return fmt.Errorf("haproxy: %s %s: %w", what, e, err)
}

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// endpoint is where one of HAProxy's APIs listens. The zero endpoint is none.
type endpoint struct {
	network string // "unix" or "tcp"
	address string // a path, or host:port
}

func (e endpoint) String() string { return e.address }

// parseEndpoint reads the forms that HAProxy itself takes for `stats socket`
// and -S, and "unix:path" beside them. An address without a prefix is a path
// if it has a slash.
func parseEndpoint(s string) (endpoint, error) {
	if s == "" {
		return endpoint{}, errors.New("no address given")
	}
	for _, prefix := range []string{"unix@", "unix:"} {
		if path, ok := strings.CutPrefix(s, prefix); ok {
			return unixEndpoint(path)
		}
	}
	if address, ok := strings.CutPrefix(s, "tcp@"); ok {
		return tcpEndpoint(address)
	}
	if strings.Contains(s, "/") {
		return unixEndpoint(s)
	}
	return tcpEndpoint(s)
}

// maxUnixPath is what sockaddr_un holds on Linux, without the ending zero.
const maxUnixPath = 107

func unixEndpoint(path string) (endpoint, error) {
	switch {
	case path == "":
		return endpoint{}, errors.New("the path is empty")
	case strings.ContainsRune(path, 0):
		return endpoint{}, fmt.Errorf("path %q: has a zero byte", path)
	case len(path) > maxUnixPath:
		return endpoint{}, fmt.Errorf("path %q: %d bytes, a unix socket's path has at most %d", path, len(path), maxUnixPath)
	}
	return endpoint{"unix", path}, nil
}

func tcpEndpoint(address string) (endpoint, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return endpoint{}, fmt.Errorf("address %q: neither a path nor host:port: %w", address, err)
	}
	if port == "" {
		return endpoint{}, fmt.Errorf("address %q: no port", address)
	}
	return endpoint{"tcp", address}, nil
}

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

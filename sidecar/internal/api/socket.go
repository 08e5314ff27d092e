package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// socketRetry is how long a socket that cannot be made is left alone: its
// directory may be full or not there yet.
const socketRetry = 5 * time.Second

// fromSocket marks the requests that came over the Unix socket. Who may open
// it has the sidecar's own rights: that is an authority, which an address is
// not, since HAProxy forwards requests from anywhere to loopback.
type fromSocket struct{}

func markSocket(ctx context.Context, c net.Conn) context.Context {
	if _, is := c.(*net.UnixConn); is {
		return context.WithValue(ctx, fromSocket{}, true)
	}
	return ctx
}

func isFromSocket(r *http.Request) bool { return r.Context().Value(fromSocket{}) != nil }

// serveSocket answers on the Unix socket until ctx ends or the server stops. The
// rest of the API works without: its error is logged, and tried
// again.
func (s *Server) serveSocket(ctx context.Context, server *http.Server) {
	trouble := ""
	for ctx.Err() == nil {
		l, err := listenSocket(ctx, s.options.Socket)
		if err == nil {
			trouble = ""
			if err = server.Serve(l); errors.Is(err, http.ErrServerClosed) {
				return
			}
		}
		if err.Error() != trouble {
			trouble = err.Error()
			s.options.Logger.Error("cannot listen on the Unix socket, retrying", "setting", "api.socket", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(socketRetry):
		}
	}
}

// socketListener removes its path when it is closed, if that is still its own.
type socketListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

func (l *socketListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(l.path) // it would refuse connections, as none is there
	}
	return l.UnixListener.Close()
}

// listenSocket listens on a Unix socket that only the sidecar's own user, and
// root, can open. What a killed sidecar has left there is replaced; what
// another one listens on, or what is no socket, is not.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is not a socket", path)
	default:
		if conn, err := (&net.Dialer{Timeout: sidecarapi.DefaultConnectTimeout}).DialContext(ctx, "unix", path); err == nil {
			_ = conn.Close() // it was opened only to see whether it can be
			return nil, fmt.Errorf("%s: another process listens there", path)
		}
	}
	// It gets its mode in a directory of its own: between bind and chmod others
	// could open it.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".pm-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // empty by then
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	var info fs.FileInfo
	if err = os.Chmod(made, 0o600); err == nil {
		if info, err = os.Lstat(made); err == nil {
			err = os.Rename(made, path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socketListener{UnixListener: l, path: path, made: info}, nil
}

// Package memnet is a network in memory, for tests inside testing/synctest: a
// goroutine that waits on a net.Pipe is durably blocked, one that waits on a
// socket is not, so a bubble with a socket in it never moves its clock.
//
// Only tests import it.
package memnet

import (
	"context"
	"net"
	"sync"
)

// Listener accepts what its own Dial connects.
type Listener struct {
	conns chan net.Conn
	done  chan struct{} // closed when the listener is closed
	once  sync.Once
}

// Listen returns a listener that has no address.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial connects to the listener, whatever network and address are named. It
// fails once the listener is closed.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "mem", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "mem" }
func (addr) String() string  { return "mem" }

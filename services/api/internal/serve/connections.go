package serve

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// connections counts the open connections of a server.
type connections struct {
	mu      sync.Mutex
	open    map[net.Conn]struct{}
	changed chan struct{} // closed, and replaced, when the last one ends
}

func newConnections() *connections {
	return &connections{open: make(map[net.Conn]struct{}), changed: make(chan struct{})}
}

// track is an http.Server's ConnState.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew, http.StateActive, http.StateIdle:
		c.open[conn] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
		if len(c.open) == 0 {
			close(c.changed)
			c.changed = make(chan struct{})
		}
	}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// none waits until there is no connection, or the context is done.
func (c *connections) none(ctx context.Context) {
	c.mu.Lock()
	empty, changed := len(c.open) == 0, c.changed
	c.mu.Unlock()
	if empty {
		return
	}
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

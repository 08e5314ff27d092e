package haproxy

import (
	"maps"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// noteUp keeps which servers are up, for drain: see drainCommands.
func (c *Client) noteUp(observed plan.Observed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.up, func(at string, _ bool) bool {
		backend, _, _ := strings.Cut(at, "/")
		_, read := observed.Backends[backend]
		return read
	})
	for backend, b := range observed.Backends {
		for _, s := range b.Servers {
			if s.Up {
				c.up[backend+"/"+s.Name] = true
			}
		}
	}
}

func (c *Client) seenUp(at string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up[at]
}

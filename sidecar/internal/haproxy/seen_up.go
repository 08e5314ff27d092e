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
	forgetRead(c.up, observed)
	for backend, b := range observed.Backends {
		for _, s := range b.Servers {
			if s.Up {
				c.up[backend+"/"+s.Name] = true
			}
		}
	}
}

// forgetRead deletes what is kept of the servers of the backends that were read.
func forgetRead[T any](kept map[string]T, observed plan.Observed) {
	maps.DeleteFunc(kept, func(at string, _ T) bool {
		backend, _, _ := strings.Cut(at, "/")
		_, read := observed.Backends[backend]
		return read
	})
}

func (c *Client) seenUp(at string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up[at]
}

// completeChecks returns the servers that are down the code and the words of their last
// check where HAProxy keeps its status only: while the next check is under way (2.6 to
// 3.4, seen).
func (c *Client) completeChecks(observed plan.Observed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := maps.Clone(c.checks)
	forgetRead(c.checks, observed)
	for backend, b := range observed.Backends {
		for i := range b.Servers {
			s, at := &b.Servers[i], backend+"/"+b.Servers[i].Name
			if s.Check.Status == "" {
				continue
			}
			if last := was[at]; s.Check.Code == 0 && s.Check.Words == "" && last.Status == s.Check.Status {
				s.Check = last
			}
			c.checks[at] = s.Check
		}
	}
}

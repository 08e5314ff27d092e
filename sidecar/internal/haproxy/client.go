package haproxy

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Client talks to one HAProxy. It is safe for concurrent use and holds no
// connection between two calls.
type Client struct {
	runtime       endpoint
	master        endpoint // zero: there is none
	reloadCommand []string
	timeout       time.Duration
	reloadTimeout time.Duration
	log           hclog.Logger
	onCommand     func(kind string, failed bool)

	dial      func(context.Context, endpoint) (net.Conn, error) // replaced in tests
	countWait time.Duration                                     // see there; replaced in tests

	reloading chan struct{} // holds a value while a Reload is under way

	mu           sync.Mutex
	pid          int                   // of the worker that caps was found from; 0: none yet
	caps         plan.Capabilities     // what that worker can do
	up           map[string]bool       // servers that the last Observe of their backend saw up, by "backend/server"
	checks       map[string]plan.Check // of those that it saw down, by the same
	byMaster     bool                  // the last exchange had to go through the master
	countsBroken bool                  // the last count of old workers' sessions failed
	counting     *sessionCount         // the one under way, or whose result no call has taken yet
	alone        int                   // the worker, by PID, that was seen to have no old one; 0: none was
	masterAway   bool                  // OldWorkers could not ask the master
	masterGone   bool                  // the master has not answered for longer than a restart takes
	large        struct {              // the last large reply
		line  string // that it answered
		bytes int
	}
}

// learn keeps what a process said of itself.
func (c *Client) learn(i info) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == i.pid && c.caps.Version == i.version {
		return
	}
	c.pid, c.caps = i.pid, capabilities(i.version)
	c.masterGone = false // another HAProxy may have another
	c.log.Info("found HAProxy", "pid", i.pid, "version", c.caps.Version, "dynamic_servers", c.caps.Dynamic)
}

// known returns what the last process that was seen can do, if any was.
func (c *Client) known() (plan.Capabilities, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caps, c.pid != 0
}

// transition sets a flag and reports whether that changed it, so that a state
// is logged when it begins and when it ends, not on every pass.
func (c *Client) transition(flag *bool, now bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := *flag
	*flag = now
	return was != now
}

package api

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/sidecar/internal/event"
)

// Options are what a Server shows and where. The functions are called at each
// request, by several at once, and must not block.
type Options struct {
	Address string // host:port; port 0 takes a free one
	Socket  string // path of a Unix socket for programs with the sidecar's rights; "" is none
	Access  Access // who is answered

	// MaxConnections bounds the connections over Address, and MaxPerAddress those
	// of one address; 0 is the default.
	MaxConnections, MaxPerAddress int

	LoadBalancer string // its name

	// SigningKeyFile has the key by which answers about drains are signed for those who
	// ask for that; "" signs none. It is read again for each answer.
	SigningKeyFile string

	// State gives the body of /api/v1/state, as JSON can encode it; nil is
	// none yet.
	State func() any
	// Parts gives the state in parts, for those who follow it; nil: it cannot be followed.
	Parts Parts
	// Short gives the body of /api/v1/summary, a short State; nil: there is none.
	Short func() any
	// Fleet gives the body of /api/v1/fleet, all load balancers; nil: there is none.
	// It may wait for others, within its own bounds.
	Fleet func(context.Context) any
	// Counters reads what HAProxy has counted of a service's instances; nil: there is none.
	Counters Counters
	// Decisions gives the body of /api/v1/decisions; nil: there is none.
	Decisions func() any
	// Deployments gives the body of /api/v1/deployments; nil: there is none. An error is
	// Consul's.
	Deployments func(context.Context) (any, error)
	// Rollouts gives the body of /api/v1/rollouts, likewise.
	Rollouts func(context.Context) (any, error)
	// Ready tells whether HAProxy runs all that Consul says and answers, and if
	// not, why.
	Ready func() (ready bool, reason string)
	// Alive gives an error when the agent's loop has not come round for longer
	// than it may.
	Alive func() error
	// Summary gives the state in one line, for /healthz, which anyone may read;
	// nil: none.
	Summary func() string

	// Watch gives what the long polls wait for; nil: there are none.
	Watch Watch
	// Drained gets each instance that an answer has called drained while
	// HAProxy has a server for it; nil ok.
	Drained func(service, instance string)
	// Attend gets +1 when a client begins to wait and -1 at the end; nil ok.
	Attend func(change int)

	// Events is what happened; nil: there is no /api/v1/events.
	Events *event.Log

	// Release releases what the guard holds; nil: no client may ask for that.
	Release Release
	// SetDrain puts servers in drain for an operator; nil: there is no such action.
	SetDrain SetDrain
	// SetMaintenance takes the load balancer out of rotation; nil: there is no such action.
	SetMaintenance SetMaintenance
	// Paused tells how far the pause of a service is; nil: there is no /api/v1/pauses.
	Paused Paused
	// SetPause pauses services in Consul; nil: there is no such action.
	SetPause SetPause
	// RequestReload has HAProxy reloaded; nil: there is no such action.
	RequestReload RequestReload
	// RolloutChanges names what ChangeRollout may do, as with `pointsman rollout`.
	RolloutChanges []string
	// ChangeRollout changes rollouts in Consul; nil: there is no such action.
	ChangeRollout ChangeRollout

	Metrics prometheus.Gatherer
	Logger  hclog.Logger // nil: none
}

func (o *Options) check() error {
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return fmt.Errorf("api: address %q: %w", o.Address, err)
	}
	if o.State == nil || o.Ready == nil || o.Alive == nil || o.Metrics == nil {
		return errors.New("api: State, Ready, Alive and Metrics must be set")
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.MaxPerAddress == 0 {
		o.MaxPerAddress = DefaultMaxPerAddress
	}
	if o.Drained == nil {
		o.Drained = func(string, string) {}
	}
	if o.Attend == nil {
		o.Attend = func(int) {}
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return nil
}

package deploy

import (
	"context"
	"errors"
	"time"
)

// Catalog is Consul, asked once at a time. An error is no answer: it says
// nothing of what is there.
type Catalog interface {
	// Instances gives all instances of the service, whatever their health.
	Instances(ctx context.Context) (Listing, error)
	// Balancers gives the load balancers that say that they route the service,
	// or may.
	Balancers(ctx context.Context) ([]Balancer, error)
}

// Balancer is a load balancer, as its sidecar has registered itself.
type Balancer struct {
	Name    string
	URL     string    // of its API, without a path
	Passing bool      // its check passes in Consul
	Problem string    // why it can't be asked, or ""
	Stopped time.Time // since when the sidecar is stopped while its HAProxy runs; else zero
}

// Balancers asks load balancers. An answer of another than the one asked for is
// an error, and no answer.
type Balancers interface {
	// Live waits, at most the given time, until count instances of the version take
	// traffic there. ErrNotRouted: it does not route the service.
	Live(ctx context.Context, b Balancer, version string, count int, wait time.Duration) (isLive bool, err error)
	// Drained waits, at most the given time, until no session is on the instance, by what
	// Consul knew at the index or later. ErrNotRouted as above.
	Drained(ctx context.Context, b Balancer, instance string, index uint64, wait time.Duration) (Drain, error)
	// View gives what it knows of every instance of the service.
	View(ctx context.Context, b Balancer) (View, error)
}

// ErrNotRouted says that a load balancer does not route the service.
var ErrNotRouted = errors.New("does not route the service")

// Drain is what is left of an instance's traffic on a load balancer.
type Drain struct {
	Drained  bool
	Phase    string // "" if it does not know the instance
	Sessions int
}

// View is the service on one load balancer.
type View struct {
	Index     uint64 // of Consul's answer that it stands on
	Instances map[Key]Seen
	Rejected  map[Key]string // left out, and why
	Unlisted  bool           // it still has servers that Consul no longer lists

	Shares    map[string]Share // of the versions by a rollout; empty: it has none
	Unapplied string           // why the shares are not what it gives the versions
	Fixed     string           // why it takes no other shares than 0 and 100; "" where it takes all
}

// Share is the part of a version in a load balancer's traffic, in percent.
type Share struct {
	Wanted int
	Seen   float64 // of the weight of the servers that take traffic
}

// list returns what the load balancer knows as instances, sorted.
func (v View) list() []Instance {
	list := make([]Instance, 0, len(v.Instances))
	for key, seen := range v.Instances {
		list = append(list, Instance{ID: key.ID, Node: key.Node, Version: seen.Version})
	}
	return sorted(list)
}

// Seen is an instance as a load balancer has it.
type Seen struct {
	Version  string
	Phase    string // "up" takes traffic; docs/api.md has the others
	Takes    bool   // it gets new requests
	Sessions int
	Check    string // HAProxy's last one, of a server that is down; "" is none
	Ready    bool   // Takes, or it would if a rollout gave its version a share
}

// Nodes starts and stops nodes.
type Nodes interface {
	// Start returns when the commands that start the nodes have ended. An error
	// joins one for each that failed.
	Start(ctx context.Context, s Start) error
	// Started gives the node that each instance is, of those that Start has
	// started, by what a registration can't choose. Others are left out.
	Started(ctx context.Context, list []Instance) (map[Key]string, error)
	// Stop likewise, with a *StopError for each node that it failed for, where
	// that can be told.
	Stop(ctx context.Context, s Stop) error
}

// Start says what to start.
type Start struct {
	Service, Version string
	OldVersion       string   // of the nodes that are to be replaced; "" if there are none
	Total            int      // number that there is to be in the end
	First            int      // the first new node's number, from 0; the others follow
	IDs              []string // one for each node to start: an ID under which it may register
}

// Stop says what to stop.
type Stop struct {
	Service, Version string
	Total            int
	Instances        []Instance // sorted

	// Undo is set when new nodes are stopped again because they did not come up.
	// Missing are the IDs that Start gave to nodes that may not have registered.
	Undo    bool
	Missing []string

	// Last is set when no old node is to be left after this. Keep are the
	// instances that stay.
	Last bool
	Keep []Instance

	// May is asked before each instance gets its stop command; nil always says yes.
	// One that it says no to is left alone, and its StopError is ErrKept.
	May func() bool
}

// ErrKept says that an old instance was left alone because new ones are lost.
var ErrKept = errors.New("kept, because new instances are no longer live")

// StopError says that one instance could not be stopped.
type StopError struct {
	Instance Key
	Err      error
}

func (e *StopError) Error() string { return "stop " + Quote(e.Instance.ID) + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *StopError) Unwrap() error { return e.Err }

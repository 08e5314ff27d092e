package reconcile

import (
	"context"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Catalog is where the agent learns what Consul says.
type Catalog interface {
	// Snapshot gives all that is known now. It never blocks.
	Snapshot() catalog.Snapshot
	// Health tells how the queries of one service go.
	Health(service string) catalog.SourceHealth
	// News calls a function with each service of which Health.Changed is another since the
	// call that returned seen, and returns what is to be given next time. 0 is all.
	News(seen uint64, each func(service string, changed time.Time)) uint64
	// Changed gets a value after Snapshot has changed; one value may stand for
	// several changes. It is the same channel on every call, with room for one.
	Changed() <-chan struct{}
}

// HAProxy is the process that the agent keeps right. Every call is bounded by
// its context and by the adapter's own deadlines.
type HAProxy interface {
	// Observe reads what HAProxy runs in these backends. An error that wraps
	// plan.ErrNotRunning means that no process answers; any other, that it
	// could not be read.
	Observe(ctx context.Context, backends []string) (plan.Observed, error)
	// Compare is Observe for the comparison of everything, at the same time as the
	// other calls.
	Compare(ctx context.Context, backends []string) (plan.Observed, error)
	// Apply sends the steps in order and gives one error, or nil, for each. A
	// nil error means that HAProxy took the command, not that it has acted:
	// only Observe proves that. An error that wraps plan.ErrRefused is permanent.
	Apply(ctx context.Context, steps []plan.Step) []error
	// Reload makes HAProxy load its file again and returns once a new worker
	// runs what has the given marker, or with the reason why none does. The
	// old worker still serves in that case.
	Reload(ctx context.Context, want plan.Marker) error
	// OldWorkers counts the workers that still finish what they have; 0 where
	// that can't be known.
	OldWorkers(ctx context.Context) (int, error)
	// Capabilities tells what the program on disk can do, for a first file
	// while none runs. The zero value is "not known".
	Capabilities(ctx context.Context) plan.Capabilities
}

// Renderer makes haproxy.cfg from the servers of a plan.
type Renderer interface {
	Marker() plan.Marker
	Render(backends []plan.FileBackend) ([]byte, error)
}

// File is haproxy.cfg.
type File interface {
	Path() string
	Exists() (bool, error)
	Read() ([]byte, error)
	// Write validates the content and puts it in place, if it differs from
	// what is there; it reports whether it did.
	Write(ctx context.Context, content []byte) (bool, error)
	// Check asks HAProxy whether the file that is in place is valid.
	Check(ctx context.Context) error
	// Restore puts back a content that HAProxy has run, because of an error.
	Restore(content []byte, because error) error
}

// DrainStore keeps what an operator has put in drain.
type DrainStore interface {
	Path() string
	// Load gives what was saved; nothing if nothing was, and with an error.
	Load() ([]catalog.OperatorDrain, error)
	// Save replaces what was saved. It is called by one goroutine at a time.
	Save(list []catalog.OperatorDrain) error
}

// Recorder counts what the agent does. Its methods must not block.
type Recorder interface {
	Step(service string, s plan.Step, err error)
	Reload(reason plan.ReloadReason, err error)
	FileWritten(err error)
	// FilePutBack is called where someone else had changed haproxy.cfg.
	FilePutBack()
	// Applied gets how long a change in Consul took until HAProxy was seen
	// to run it.
	Applied(service string, took time.Duration)
	// State gets each new State.
	State(s *State)
}

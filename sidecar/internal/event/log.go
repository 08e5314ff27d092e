// Package event keeps what happened on this load balancer: the newest events,
// numbered, for the API, the page and the command line.
//
// Its invariant: an event costs the agent's loop no wait and bounded memory. A
// reader that is too slow gets an event that says that it has missed some.
//
// It implements the Recorder of reconcile.
package event

import (
	"sync"
	"time"
)

// Kind is what happened, from one closed list.
type Kind string

// The kinds. Those of servers have HAProxy's words, those of instances Consul's.
const (
	ServerAdded    Kind = "server_added"
	ServerRemoved  Kind = "server_removed"
	ServerReady    Kind = "server_ready"    // traffic is let in; up once its check passes
	ServerUp       Kind = "server_up"       // it takes traffic
	ServerDown     Kind = "server_down"     // HAProxy's check fails
	ServerDraining Kind = "server_draining" // no new sessions
	ServerDrained  Kind = "server_drained"  // no session is left
	ServerMaint    Kind = "server_maint"
	ServerChanged  Kind = "server_changed"  // its connection limit or checks
	BackendChanged Kind = "backend_changed" // added, published, unpublished or deleted at runtime
	WeightChanged  Kind = "weight_changed"
	AddressChanged Kind = "address_changed"
	SessionsEnded  Kind = "sessions_ended" // after the drain's deadline
	StepFailed     Kind = "step_failed"    // a command that HAProxy did not take

	InstanceRegistered Kind = "instance_registered"
	InstanceLeaving    Kind = "instance_leaving" // it has said that it leaves
	InstanceGone       Kind = "instance_gone"    // Consul no longer lists it
	InstanceRejected   Kind = "instance_rejected"
	HealthChanged      Kind = "health_changed" // Consul's word for it

	GuardHeld     Kind = "guard_held" // mass removal blocked
	GuardReleased Kind = "guard_released"

	ServicePaused  Kind = "service_paused"  // new requests wait in HAProxy
	ServiceResumed Kind = "service_resumed" // by an operator, or at the deadline

	ChangeApplied Kind = "change_applied" // HAProxy was seen to run a change in Consul, which took commands or a reload

	ReloadDone   Kind = "reload_done"
	ReloadFailed Kind = "reload_failed"
	FileFailed   Kind = "file_failed" // haproxy.cfg could not be written

	HAProxyUp      Kind = "haproxy_up"
	HAProxyDown    Kind = "haproxy_down"
	WorkerChanged  Kind = "worker_changed" // another worker serves
	ConsulLost     Kind = "consul_lost"
	ConsulBack     Kind = "consul_back"
	MaintenanceOn  Kind = "maintenance_on"
	MaintenanceOff Kind = "maintenance_off"
	Ready          Kind = "ready"
	NotReady       Kind = "not_ready"
)

// Event is one thing that happened. Its texts may be a tenant's.
type Event struct {
	// Seq is above that of every earlier event, also of the sidecar before this
	// one, and below 2^53.
	Seq      uint64    `json:"seq"`
	At       time.Time `json:"at"`
	Kind     Kind      `json:"kind"`
	Service  string    `json:"service,omitempty"`
	Backend  string    `json:"backend,omitempty"` // a service may have several
	Server   string    `json:"server,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Detail   string    `json:"detail,omitempty"` // the new value, where there is one
	Error    string    `json:"error,omitempty"`
}

// Capacity is how many events a Log keeps.
const Capacity = 4096

// Log keeps the newest events.
type Log struct {
	mu     sync.Mutex
	ring   []Event
	last   uint64        // number of the newest event, or of the one before the first
	newer  chan struct{} // closed when there are newer ones
	before uint64        // number before the first event that there ever was
}

// NewLog begins a log. The numbers start at the time in microseconds, so that
// they go on rising over a restart.
func NewLog(now time.Time) *Log {
	start := uint64(now.UnixMicro())
	return &Log{last: start, before: start, newer: make(chan struct{})}
}

// Add adds events; it sets their number and time.
func (l *Log) Add(now time.Time, events ...Event) {
	if len(events) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		l.last++
		e.Seq, e.At = l.last, now.UTC()
		if len(l.ring) < Capacity {
			l.ring = append(l.ring, e)
		} else {
			l.ring[(l.last-l.before-1)%Capacity] = e
		}
	}
	close(l.newer)
	l.newer = make(chan struct{})
}

// Last is the number of the newest event.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// After returns the events after a number, at most max of them, the oldest first.
// missed says that some after it are no longer kept, or were another sidecar's;
// 0 asks for all that are kept and misses none. newer is closed when there are
// newer ones than these.
func (l *Log) After(seq uint64, most int) (events []Event, missed bool, newer <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := l.last - uint64(len(l.ring)) // the one before the first that is kept
	if seq < oldest {
		missed, seq = seq != 0, oldest
	}
	events = []Event{}
	for n := seq + 1; n <= l.last && len(events) < most; n++ {
		events = append(events, l.ring[(n-l.before-1)%Capacity])
	}
	return events, missed, l.newer
}

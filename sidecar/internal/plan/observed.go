package plan

import (
	"net/netip"
	"slices"
	"time"
)

// Capabilities is what one HAProxy process can do, as found from the process.
type Capabilities struct {
	Version string // as HAProxy prints it, e.g. "2.6.12-1+deb12u4"

	// Dynamic is true where servers are added and deleted at runtime and
	// `wait … srv-removable` tells when: 3.0 and newer. Before that the plan
	// uses slots.
	Dynamic bool

	// Backends is true where backends are added and deleted at runtime: 3.4 and newer.
	Backends bool
}

// Observed is what one HAProxy runs at one moment.
type Observed struct {
	// Running is false while HAProxy does not answer. The other fields say
	// nothing then, except Caps and Maintenance.
	Running bool

	Caps   Capabilities
	PID    int // of the current worker
	Marker Marker

	// Maintenance is whether this load balancer was taken out of rotation. It
	// says something also while HAProxy does not run: how it is to come back.
	Maintenance bool

	// Backends holds what was read, by backend name. A backend that HAProxy
	// does not have is absent; the agent reads all that it asks Compute about.
	Backends map[string]Backend

	// Flapping has, by backend, the servers' names of the instances that are
	// not let into traffic because their health has changed too often.
	Flapping map[string]map[string]bool

	// Drained has, by backend, the servers' names (catalog.Instance.Server) of the
	// instances that an operator keeps in drain, with their number in the order in
	// which that began, from 1. It is looked at also while HAProxy does not run.
	Drained map[string]map[string]int

	// Last is the servers that took traffic when HAProxy last ran, by backend,
	// less those that have announced since that they leave. It is looked at
	// while HAProxy does not run.
	Last map[string][]FileServer

	// Guards is what is remembered of losses, by backend. HAProxy does not
	// tell; the agent adds it.
	Guards map[string]Guard

	// Listed has the addresses at which Consul lists an instance, with the
	// service's name, or "" for several services. It may be nil while the guard
	// holds no server; the agent adds it.
	Listed map[netip.AddrPort]string

	// Absent is how long the instances of Plan.Absent have been absent, by
	// backend and catalog.Instance.Server. HAProxy does not tell; the agent adds
	// it.
	Absent map[string]map[string]time.Duration

	// Refused is why HAProxy has refused to add, publish, unpublish or delete a backend, by
	// backend. It would again; the agent adds it.
	Refused map[string]string

	// Ended has, by backend and server, the SinceChange at which a part of a server's
	// sessions was last ended. HAProxy does not tell; the agent adds it. Without it a part
	// more ends, and no harm is done.
	Ended map[string]map[string]time.Duration
}

// Backend is one backend as HAProxy runs it.
type Backend struct {
	Servers []Server // sorted by ID

	// Left is how the agent last saw the servers when nothing was left to do,
	// if it has: what differs from it now was changed by someone else.
	Left []FileServer

	// Refuses is set when this backend has refused `add server` for a reason
	// that will not go away (a static balance algorithm, a keyword). Slots are
	// used then, as on 2.6.
	Refuses bool

	// Adds is set when it has taken `add server`. Until then free slots are
	// kept: it may be one that refuses.
	Adds bool

	// Static is set when this backend has refused a weight: see Service.Static.
	Static bool

	// Unpublished is whether no request is routed to it.
	Unpublished bool
}

// Equal reports whether both are the same, in all that a plan is made from.
func (b Backend) Equal(o Backend) bool {
	return b.Refuses == o.Refuses && b.Adds == o.Adds && b.Static == o.Static && b.Unpublished == o.Unpublished &&
		slices.Equal(b.Servers, o.Servers) && slices.Equal(b.Left, o.Left)
}

// Admin is the administrative state of a server.
type Admin uint8

// The administrative states, as `set server … state` sets them.
const (
	Ready Admin = iota
	Drain
	Maint
)

// String returns the word that `set server … state` takes.
func (a Admin) String() string { return [...]string{"ready", "drain", "maint"}[a] }

// Agent is the state of a server's agent check: a program next to the
// instance that HAProxy asks, and whose answers set weight and administrative state
// (configuration manual 5.2, "agent-check").
type Agent uint8

// The states of an agent check.
const (
	NoAgent   Agent = iota // the server has none
	AgentOff               // disabled, no answer is under way
	AgentBusy              // disabled, and the answer to the last question may still come
	AgentOn                // enabled
)

// String returns the word that the state of a server shows; "" for none.
func (a Agent) String() string { return [...]string{"", "disabled", "busy", "enabled"}[a] }

// Decides reports whether an answer of the agent may still change the server.
func (a Agent) Decides() bool { return a == AgentOn || a == AgentBusy }

// Server is one server as HAProxy runs it.
type Server struct {
	ID    int // srv_id, unique in its backend
	Name  string
	Addr  netip.AddrPort // invalid if HAProxy has none
	Admin Admin

	// Up is whether HAProxy would send a request there as far as health goes
	// (srv_op_state running or starting). An unchecked server is always up.
	Up bool
	// Check is the last check, or agent check, of a server that is not up.
	Check Check

	Weight       int // in use, 0 to 256
	ConfigWeight int // of the server's line in the file or of `add server`; percentages are of it
	MaxConn      int // 0 is no limit
	Backup       bool
	Checked      bool // HAProxy's own health check is running
	NoCheck      bool // the server has none that could run
	Agent        Agent
	AgentPort    int // where it asks; of no meaning without one

	// FileDisabled is whether the server's line in the file has `disabled`, also
	// when it has become ready since.
	FileDisabled bool

	// SinceChange is the time since the state last changed, to the second. It
	// is HAProxy's own, so it outlives the sidecar.
	SinceChange time.Duration

	// Sessions counts the sessions on this server's address and those queued
	// for it, in the current worker and in every old one.
	Sessions int
	// Uncounted is whether that of the old workers is not known yet. Sessions is at
	// least 1 then.
	Uncounted bool
}

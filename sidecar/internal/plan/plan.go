// Package plan decides. Compute compares what Consul says with what HAProxy
// runs and gives the steps that lead from the one to the other, each with its
// reason, in an order that loses no request.
//
// Its invariant: it is a pure function. No I/O, no clock, no log, no map
// order: the same arguments give the same Plan. What must be remembered
// between two calls is read from HAProxy, so nothing is lost with the sidecar.
//
// The agent calls it; adapters take its types. It imports only catalog.
package plan

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Service is the operator's policy for one backend.
type Service struct {
	Name    string // Consul's service name
	Backend string // HAProxy's backend name

	Checked bool   // HAProxy checks the servers itself
	Path    string // what that check gets by HTTP; "" is another check
	Options string // the words after the address on a server's line, the same in the file and in `add server`; no newline
	MaxConn int    // connection limit of a server whose instance sets none; 0 is no limit
	// AgentFromMeta says that the agent check of each server asks at the port that
	// its instance names. Options has the agent check, with NoAgentPort.
	AgentFromMeta bool
	Static        bool // the balance algorithm takes no weight at runtime but none and the configured one

	// Defaults is the named defaults section of haproxy.cfg that has all the backend's
	// settings, for a HAProxy that adds and deletes backends at runtime; "" is a backend
	// of the file only. Mode is its mode, http or tcp.
	Defaults, Mode string
	// ByReload is why a discovered service has no Defaults, for people; else "".
	ByReload string
	// Gone is a backend with Defaults that the settings no longer have. It is taken away
	// once its servers are.
	Gone bool

	// Operator names the servers that the operator's own lines in haproxy.cfg
	// declare in this backend. They are left alone.
	Operator []string

	Warning bool // an instance in warning takes traffic

	ForceSlots bool // use slots even where servers can be added
	Slots      int  // how many servers the backend has room for at least, where slots are used
	Spare      int  // how many of them are free, at least, after a reload

	DrainTimeout       time.Duration // from drain to maint at the latest, though sessions are left
	SessionKillAfter   time.Duration // from maint until the sessions that are left are ended; 0 never ends them
	SessionKillSpread  time.Duration // how long that takes, a part each second; 0 ends all at once
	MoveSticky         bool          // a leaving server goes to maint at once and not to drain: clients that stick to it move, its sessions have the same time
	CloseRole          bool          // end the sessions of an instance at once that has lost a tag
	ReplacementTimeout time.Duration // how long a server that does not come up counts as a replacement that is coming

	MinServers   int           // servers that an unannounced loss never goes below
	MaxLossRatio float64       // share of the available servers, 0 to 1, that may be lost unannounced at once
	Window       time.Duration // servers that become unhealthy within it count as lost at once
	Hold         time.Duration // how long a mass loss is held at most; 0 is without end
	// HoldDeregistered is the same for servers that Consul does not list.
	HoldDeregistered time.Duration
}

// Desired is the whole of what HAProxy should run except the instances, which
// come from Consul.
type Desired struct {
	Marker   Marker
	Services []Service // sorted by Backend, each once
	Rotation bool      // haproxy.cfg has the backend RotationBackend

	Requested bool // an operator has asked for a reload
}

// Kind is what a Step does.
type Kind string

// The kinds of steps. They are metric labels and API values.
const (
	Add          Kind = "add"           // a new server, that starts down until HAProxy's check has passed
	Delete       Kind = "delete"        // a server in maint without sessions
	SetReady     Kind = "ready"         // let traffic in
	SetDrain     Kind = "drain"         // no new sessions but persistent ones
	SetMaint     Kind = "maint"         // no sessions, no checks
	SetWeight    Kind = "weight"        //
	SetMaxConn   Kind = "maxconn"       //
	SetAddr      Kind = "addr"          // address and port
	EnableHealth Kind = "enable_health" // HAProxy's own check had been switched off
	EnableAgent  Kind = "enable_agent"  // the agent check decides on weight and state again
	DisableAgent Kind = "disable_agent" // the agent check no longer changes weight and state
	Shutdown     Kind = "shutdown"      // end the sessions on a server in maint, in every worker

	AddBackend       Kind = "add_backend"       // without servers, and unpublished: no request is routed to it
	PublishBackend   Kind = "publish_backend"   // let requests be routed to it
	UnpublishBackend Kind = "unpublish_backend" // no longer
	DeleteBackend    Kind = "delete_backend"    // an unpublished one without servers
)

// Kinds lists every Kind, for metrics that must exist before they are counted.
var Kinds = []Kind{Add, Delete, SetReady, SetDrain, SetMaint, SetWeight, SetMaxConn, SetAddr, EnableHealth, EnableAgent, DisableAgent, Shutdown, AddBackend, PublishBackend, UnpublishBackend, DeleteBackend}

// Reason is why a step is taken, from one closed list.
type Reason string

// The reasons of steps. They are log fields, metric labels and API values.
const (
	Registered    Reason = "registered"     // Consul lists it, HAProxy does not
	Healthy       Reason = "healthy"        // its checks pass again
	Unhealthy     Reason = "unhealthy"      // its checks fail
	Leaving       Reason = "leaving"        // it has said that it leaves
	InMaintenance Reason = "in_maintenance" // Consul's maintenance mode
	ByOperator    Reason = "operator"       // an operator keeps it in drain
	Deregistered  Reason = "deregistered"   // Consul no longer lists it
	RoleLost      Reason = "role_lost"      // Consul lists it without the tags that the backend asks for
	Drained       Reason = "drained"        // no session is left in any worker
	DrainExpired  Reason = "drain_expired"  // sessions are left, the time is over
	Moved         Reason = "moved"          // its address or its role as a backup changed, or another server serves its address
	Reweighted    Reason = "reweighted"     // its weight or connection limit changed
	Drift         Reason = "drift"          // HAProxy had been changed by someone else
	Unused        Reason = "unused"         // a free slot where none is needed
	OutOfTraffic  Reason = "out_of_traffic" // it is out of traffic, and its agent check could let it in
)

// Step is one change to one server, or to a backend.
type Step struct {
	Kind     Kind
	Reason   Reason
	Backend  string
	Server   string // a legal HAProxy name; "" for a step of the backend itself
	Instance string // Consul's service ID, for people; "" if there is none

	Addr    netip.AddrPort // Add, SetAddr; SetReady: what it is ready for; Shutdown: where the sessions are, also those of old workers
	Weight  int            // Add, SetWeight
	MaxConn int            // Add, SetMaxConn
	Backup  bool           // Add
	Options string         // Add

	Defaults, Mode string // AddBackend: see Service

	// Prove makes a server that becomes ready, or whose agent is enabled, wait, down, for
	// HAProxy's own check: Add, SetReady, EnableAgent.
	Prove bool

	// Agent says that the server has an agent check: Add and SetReady enable it,
	// SetDrain, SetMaint and SetWeight disable it first.
	Agent bool

	// AgentPort is where the agent is asked from then on, where its instance names
	// that: Add, SetReady, EnableAgent. 0 leaves it as it is.
	AgentPort int

	// Sessions is how many of the sessions end: Shutdown. 0 is all of them.
	Sessions int

	// Percent says that Weight is a percentage of the configured weight, 0 or
	// 100: SetWeight.
	Percent bool
}

// IsForWorker reports whether the step is right only for the worker that was
// observed. It takes a server out of traffic that could go on to serve, because of
// others that have come, say; or it makes one ready at the address that it has
// there. One that has lost its role must not serve in any worker.
func (s Step) IsForWorker() bool {
	switch s.Kind {
	case SetReady:
		return true
	case SetDrain, SetMaint:
	case SetWeight:
		if s.Weight > 0 {
			return false
		}
	case AddBackend, PublishBackend, UnpublishBackend, DeleteBackend: // the next one has the backends of its file
	case Add, Delete, SetMaxConn, SetAddr, EnableHealth, EnableAgent, DisableAgent, Shutdown:
		return false
	}
	return s.Reason != Unhealthy && s.Reason != Drained && s.Reason != DrainExpired && s.Reason != RoleLost
}

// IsRemoval reports whether the step takes something out of traffic or away.
func (s Step) IsRemoval() bool {
	switch s.Kind {
	case SetDrain, SetMaint, Delete, Shutdown, DisableAgent, UnpublishBackend, DeleteBackend:
		return true
	case SetWeight:
		return s.Weight == 0
	case Add, SetReady, SetMaxConn, SetAddr, EnableHealth, EnableAgent, AddBackend, PublishBackend:
	}
	return false
}

// ReloadReason is why a reload is needed, from one closed list.
type ReloadReason string

// The reasons of reloads. They are log fields, metric labels and API values.
const (
	NoReload        ReloadReason = ""
	NotOurs         ReloadReason = "not_ours"         // HAProxy runs a configuration that we did not write
	ServiceAdded    ReloadReason = "service_added"    //
	ServiceRemoved  ReloadReason = "service_removed"  //
	SettingsChanged ReloadReason = "settings_changed" //
	TemplateChanged ReloadReason = "template_changed" //
	SlotsExhausted  ReloadReason = "slots_exhausted"  // an instance waits for a slot
	WeightsChanged  ReloadReason = "weights_changed"  // a weight that cannot be changed at runtime
	Requested       ReloadReason = "requested"        // by an operator
)

// ReloadReasons lists every reason, for metrics that must exist before they
// are counted.
var ReloadReasons = []ReloadReason{NotOurs, ServiceAdded, ServiceRemoved, SettingsChanged, TemplateChanged, SlotsExhausted, WeightsChanged, Requested}

// ReloadCause is a backend that needs a reload, and why, for people.
type ReloadCause struct {
	Backend string `json:"backend"`
	Why     string `json:"why"`
}

// FileServer is a server as haproxy.cfg must have it.
type FileServer struct {
	Name     string
	Addr     netip.AddrPort
	Weight   int // 0 stands for drain, which the file has no word for
	MaxConn  int
	Backup   bool
	Disabled bool // in maint

	AgentPort int // where its agent check asks, if the instance names that; else 0
}

// FileBackend is the servers of a backend as haproxy.cfg must have them.
type FileBackend struct {
	Service string // Consul's name
	Backend string
	Servers []FileServer // sorted as HAProxy should number them

	// Known is false where neither Consul nor HAProxy has told what belongs
	// here. The file that exists is better than an empty backend then.
	Known bool
}

// Equal reports whether both say the same. It costs little where one has been copied
// from the other.
func (f FileBackend) Equal(o FileBackend) bool {
	if f.Service != o.Service || f.Backend != o.Backend || f.Known != o.Known || len(f.Servers) != len(o.Servers) {
		return false
	}
	return len(f.Servers) == 0 || &f.Servers[0] == &o.Servers[0] || slices.Equal(f.Servers, o.Servers)
}

// Waiting is a change that will be due later, and what it waits for.
type Waiting struct {
	Backend, Server, Instance string
	For                       WaitReason
	Sessions                  int // ForSessions only
	// Uncounted, ForSessions only: the instance leaves, and has no session but what old
	// workers may have, which are being counted.
	Uncounted bool

	// ForCheck only: the last check, and since when the server is down.
	Check Check
	Down  time.Duration

	// Stays, ForReplacement only: the server is to take traffic until then, so it is
	// not on its way out.
	Stays bool
}

// WaitReason is what a change waits for.
type WaitReason string

// What a change can wait for.
const (
	ForSessions    WaitReason = "sessions"    // a draining server still has sessions
	ForReplacement WaitReason = "replacement" // a server that is coming must be up first
	ForCheck       WaitReason = "check"       // HAProxy's check has not passed yet
	ForGuard       WaitReason = "guard"       // too much was lost at once; HAProxy's own checks decide
	ForDamping     WaitReason = "damping"     // it flaps, and must stay well for a while
	ForSlot        WaitReason = "slot"        // a slot, by a reload
	ForAgent       WaitReason = "agent"       // its agent check keeps it out of traffic
	ForConsul      WaitReason = "consul"      // no complete answer yet
)

// Plan is what to do now. The steps are sorted: what adds capacity comes
// before what removes it. After they are applied and read back, Compute is
// called again until it gives none.
type Plan struct {
	Steps  []Step
	Reload ReloadReason
	// ReloadFor is the backends that a ServiceAdded brings and a ServiceRemoved takes, in the
	// order of the services, and why they are not added or deleted at runtime.
	ReloadFor []ReloadCause
	// HoldReload says that a node is about to be told that it is drained, and that the
	// reload should come after that, if it can be had soon: HAProxy's master does not
	// count while it reads a large file. It is set only where a reload brings slots.
	HoldReload bool

	File    []FileBackend // what the file must hold once the steps are applied, sorted by backend
	Waiting []Waiting

	// Unproven names, by backend, the servers in File that take traffic and that
	// HAProxy's own check has not passed for. It is set where Reload is.
	Unproven map[string][]string

	// Lost is for Guard, in the order of the services and HAProxy's.
	Lost []Loss

	// Absent lists the instances that should take traffic and have no ready
	// server at their address, though steps could give them one. It is for
	// Observed.Absent.
	Absent []Absence

	// Placed tells, by backend, which server each instance has that has one, in
	// HAProxy's order.
	Placed map[string][]Placement
}

// Absence is one instance that has no ready server.
type Absence struct {
	Backend string
	Server  string // the instance's name for its server (catalog.Instance.Server)
}

// Placement is one instance's server.
type Placement struct {
	Server   string
	Instance catalog.Instance
}

// Empty reports whether there is nothing to do in HAProxy.
func (p Plan) Empty() bool { return len(p.Steps) == 0 && p.Reload == NoReload }

package reconcile

import (
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// State is what the agent knows and has done, for people and scripts: the
// body of /api/v1/state. A State is immutable; the agent publishes a new one
// after each pass. Slices are never nil, so that JSON has [] and not null.
type State struct {
	LoadBalancer string    `json:"load_balancer"` // this load balancer's name
	Version      string    `json:"version"`       // the sidecar's
	Started      time.Time `json:"started"`

	// Converged is true once every service has had a complete answer from
	// Consul, or its known servers adopted, and HAProxy was seen to run all of
	// it. It stays true.
	Converged bool `json:"-"`
	// Ready is true while the sidecar has converged and HAProxy can be read, or
	// could a moment ago.
	Ready bool `json:"ready"`
	// NotReady says why Ready is false; "" when it is true.
	NotReady string `json:"not_ready,omitempty"`

	// Behind is the changes that HAProxy is still to get.
	Behind BehindState `json:"behind"`

	HAProxy  HAProxyState   `json:"haproxy"`
	Consul   ConsulState    `json:"consul"`
	File     FileState      `json:"file"`
	Reloads  ReloadState    `json:"reloads"`
	Services []ServiceState `json:"services"` // sorted by Name, then Backend

	// Frontends is the frontends with routes, as ordered in the settings.
	Frontends []FrontendState `json:"frontends"`

	// Drains is what an operator keeps in drain, also of instances that Consul does not
	// list, in the order in which that began.
	Drains []catalog.OperatorDrain `json:"operator_drains"`

	// ReloadRequests is the newest reloads that operators have asked for, the oldest first.
	ReloadRequests []ReloadRequest `json:"reload_requests"`

	empty map[[2]string]bool // see oldWorkers
	gone  map[string]bool    // services whose backend is on its way out, and still has servers
}

// BehindState is what HAProxy is still to get of what Consul says.
type BehindState struct {
	Changes int       `json:"changes"`        // servers with one, and services with an answer that is not planned
	Since   time.Time `json:"since,omitzero"` // since when the oldest waits
}

// HAProxyState is what was last seen of the HAProxy process.
type HAProxyState struct {
	Running bool `json:"running"` // it answers, and was read
	// Stopped is true while no process listens on its sockets. One that is
	// neither running nor stopped may serve, and can't be read.
	Stopped bool   `json:"stopped"`
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"` // the current worker's
	// OldWorkers is how many workers of before a reload still finish what they
	// have; it is counted when everything is compared, and when another worker
	// serves.
	OldWorkers        int  `json:"old_workers"`
	OldWorkersUnknown bool `json:"old_workers_unknown,omitempty"` // they could not be counted
	// OldWorkersMemory is how much memory they take, in bytes; 0 also where
	// that can't be known.
	OldWorkersMemory int64 `json:"old_workers_memory"`
	// Maintenance is true while this load balancer is out of rotation; while
	// HAProxy does not run, whether it will be.
	Maintenance bool   `json:"maintenance"`
	Error       string `json:"error,omitempty"`
}

// ConsulState sums up the watched services.
type ConsulState struct {
	Reachable   bool      `json:"reachable"`    // the last query of every service succeeded
	LastContact time.Time `json:"last_contact"` // the oldest last successful answer among the services; zero before each had one
	Error       string    `json:"error,omitempty"`
	// RolloutsError is why the rollouts cannot be read; the last known ones stay.
	RolloutsError string `json:"rollouts_error,omitempty"`
	// PausesError is why the pauses of services cannot be read; the last known ones stay.
	PausesError string `json:"pauses_error,omitempty"`
	// RolloutsUnknown says that there are no last known ones: instances have their own weights.
	RolloutsUnknown bool `json:"rollouts_unknown,omitempty"`
}

// FileState is the state of haproxy.cfg.
type FileState struct {
	Path    string    `json:"path"`
	Current bool      `json:"current"` // it holds what HAProxy runs
	Pending bool      `json:"pending"` // it is about to be written, or HAProxy was not read since it was
	Written time.Time `json:"written"`
	Error   string    `json:"error,omitempty"` // the last write's or validation's

	// PutBack is how often someone else had changed it, and it was put back.
	PutBack int `json:"put_back,omitempty"`

	// LeftOut is the services because of which HAProxy would reject the file.
	LeftOut []LeftOutState `json:"left_out"`
}

// LeftOutState is a service that the file does not have as the settings say.
type LeftOutState struct {
	Service  string `json:"service"`
	Backend  string `json:"backend"`
	AsBefore bool   `json:"as_before"` // the file has it as it was; else not at all
	Error    string `json:"error"`     // HAProxy's words
}

// ReloadState counts reloads since the sidecar started.
type ReloadState struct {
	Succeeded  int       `json:"succeeded"`
	Failed     int       `json:"failed"`
	Last       time.Time `json:"last"`
	LastReason string    `json:"last_reason,omitempty"`
	Pending    string    `json:"pending,omitempty"` // the reason of the reload that is due
	// For is the backends that it brings or takes, at most ten, with the reason why they are
	// not added or deleted at runtime; LastFor is those of the last one.
	For       []plan.ReloadCause `json:"for,omitempty"`
	LastFor   []plan.ReloadCause `json:"last_for,omitempty"`
	UnderWay  bool               `json:"under_way,omitempty"`
	WaitsFor  string             `json:"waits_for,omitempty"` // what holds back the one that is due: old workers or their memory
	NotBefore time.Time          `json:"not_before,omitzero"` // when the one that is due starts at the earliest; zero: it is not known yet
	Error     string             `json:"error,omitempty"`     // of the last, if it failed and is still needed
}

// ServiceState is one service on this load balancer.
type ServiceState struct {
	Name         string          `json:"name"`
	Backend      string          `json:"backend"`
	Known        bool            `json:"known"` // Consul has given a complete answer
	Index        uint64          `json:"index"`
	Answered     time.Time       `json:"answered"`                   // Consul's last successful answer
	Error        string          `json:"error,omitempty"`            // of the last query
	Applied      time.Time       `json:"applied"`                    // when HAProxy was last seen to run it all
	AppliedAfter float64         `json:"applied_after_ms,omitempty"` // how long that took from Consul's answer on, in milliseconds; absent for the first answer
	Instances    []InstanceState `json:"instances"`                  // sorted by Server; also servers that Consul no longer lists
	Rejected     []RejectedState `json:"rejected"`
	FreeSlots    int             `json:"free_slots"`
	// BeyondLimit is how many of Rejected are so for max_instances only.
	BeyondLimit int           `json:"beyond_max_instances"`
	Guard       GuardState    `json:"guard"`
	Rollout     *RolloutState `json:"rollout,omitempty"` // absent: none is recorded
	Pause       *PauseState   `json:"pause,omitempty"`   // absent: it is not paused

	// filePending is whether haproxy.cfg may not have what HAProxy runs of the service.
	filePending bool
}

// RolloutState is how the versions of a service share its traffic.
type RolloutState struct {
	State      string       `json:"state,omitempty"` // running, paused, promoted or aborted
	Shares     []ShareState `json:"shares"`          // by version; empty: the instances have their own weights
	ModifiedBy string       `json:"modified_by,omitempty"`
	ModifiedAt time.Time    `json:"modified_at,omitzero"`
	Ignored    string       `json:"ignored,omitempty"` // why the shares are not the weights
	Refused    string       `json:"refused,omitempty"` // why the newest document in Consul is not used
}

// PauseState is the pause of a service: its new requests wait in HAProxy.
type PauseState struct {
	Until      time.Time `json:"until,omitzero"` // when they go on at the latest
	ModifiedBy string    `json:"modified_by,omitempty"`
	ModifiedAt time.Time `json:"modified_at,omitzero"`
	Reason     string    `json:"reason,omitempty"`
	Applied    time.Time `json:"applied,omitzero"`  // since when HAProxy has it; zero: not yet
	Problem    string    `json:"problem,omitempty"` // why it has not
	Refused    string    `json:"refused,omitempty"` // why the newest document in Consul is not used
}

// ShareState is the part of one version, wanted and as HAProxy has it.
type ShareState struct {
	Version string `json:"version"`
	Percent int    `json:"percent"` // wanted, 0 to 100
	Weight  int    `json:"weight"`  // wanted, the sum of its servers
	// Servers is how many of them take traffic, and Actual the part of the weight that
	// these have, in percent.
	Servers int     `json:"servers"`
	Actual  float64 `json:"actual"`
}

// GuardState is what the guard holds of one service.
type GuardState struct {
	Held  []string  `json:"held"`           // HAProxy's names of the servers, sorted
	Since time.Time `json:"since,omitzero"` // since when the first of them is held
	Until time.Time `json:"until,omitzero"` // when it is released, as far as min_servers; zero: no end
}

// FrontendState is one frontend with routes.
type FrontendState struct {
	Name    string       `json:"name"`
	Default string       `json:"default,omitempty"` // backend of what no route matches
	Applied time.Time    `json:"applied,omitzero"`  // when HAProxy was seen to have these routes; zero: not yet
	Error   string       `json:"error,omitempty"`   // why it has not
	Routes  []RouteState `json:"routes"`            // in the order of the settings
	// Withheld is the backends of routes that HAProxy does not get yet: it does not have the
	// backend, or no server of it is up.
	Withheld []string `json:"withheld,omitempty"`
}

// RouteState is one route.
type RouteState struct {
	Host    string   `json:"host"` // "*" is every host
	Path    string   `json:"path"`
	Backend string   `json:"backend"`
	Strip   int      `json:"strip,omitempty"` // segments of the path that are taken off
	Methods []string `json:"methods,omitempty"`
	Headers []string `json:"headers,omitempty"`
	Source  string   `json:"source"` // who has defined it: settings, or the service's tag, meta or fabio tag
}

// Phase is where an instance is in its life on this load balancer.
type Phase string

// The phases, in the order of a life.
const (
	PhaseUnknown  Phase = "unknown"  // not seen in HAProxy yet
	PhaseStarting Phase = "starting" // in HAProxy, its check has not passed
	PhaseUp       Phase = "up"       // takes traffic
	PhaseDown     Phase = "down"     // ready, but HAProxy's check fails
	PhaseDraining Phase = "draining" // finishes what it has
	PhaseDrained  Phase = "drained"  // draining, without sessions
	PhaseOut      Phase = "out"      // in maint
)

// Phases lists every Phase.
var Phases = []Phase{PhaseUnknown, PhaseStarting, PhaseUp, PhaseDown, PhaseDraining, PhaseDrained, PhaseOut}

// What Consul says of a server without an instance.
const (
	healthGone    = "gone"    // it is not listed
	healthUnknown = "unknown" // no complete answer yet
)

// InstanceState is one instance, as Consul lists it and HAProxy runs it.
type InstanceState struct {
	ID              string    `json:"id"` // "" for a server that Consul does not list
	Node            string    `json:"node,omitempty"`
	Server          string    `json:"server"` // HAProxy's name for it; in a slot, the slot's
	Addr            string    `json:"address"`
	MovesTo         string    `json:"moves_to,omitempty"` // Consul's address for it, where HAProxy has another
	Version         string    `json:"version,omitempty"`
	Health          string    `json:"health"`                 // Consul's word; "gone" if Consul does not list it, "unknown" before Consul has answered
	ConsulCheck     string    `json:"consul_check,omitempty"` // Consul's worst check of one that is not passing, and its output: at most 302 bytes in one line
	Phase           Phase     `json:"phase"`
	Since           time.Time `json:"since,omitzero"`          // since when HAProxy has the server in its state, up, down, drain or maint; zero: it has none
	Leaving         bool      `json:"leaving"`                 // it has said so
	RoleLost        bool      `json:"role_lost,omitempty"`     // Consul lists its instance, without a tag of the backend
	Backup          bool      `json:"backup,omitempty"`        // HAProxy uses it only while no other server of the backend is up
	Standby         bool      `json:"standby,omitempty"`       // it is up, and another that is no backup is, too
	Own             bool      `json:"own,omitempty"`           // a server of the operator's own, that is left alone
	Admin           string    `json:"admin,omitempty"`         // HAProxy's: ready, drain, maint
	Agent           string    `json:"agent,omitempty"`         // agent check: enabled, disabled, or busy while an answer may still come
	Weight          int       `json:"weight"`                  // that HAProxy has for it
	ConsulWeight    int       `json:"consul_weight"`           // as registered, for its health, at most 256, which is HAProxy's largest; 0 where Consul does not list it
	EffectiveWeight int       `json:"effective_weight"`        // by which HAProxy shares new requests: 0 unless the phase is up. A slow start is not in it
	WeightReason    string    `json:"weight_reason,omitempty"` // why the effective weight is not Consul's
	ByShare         bool      `json:"by_share,omitempty"`      // the weight is made from a rollout's shares
	Sessions        int       `json:"sessions"`
	Waiting         string    `json:"waiting,omitempty"`       // what its next change waits for
	Drain           time.Time `json:"operator_drain,omitzero"` // since when an operator keeps it in drain
	NoDrain         string    `json:"drain_refused,omitempty"` // why an operator cannot keep it in drain
	Check           string    `json:"check,omitempty"`         // HAProxy's last check of a server that is down: status, code and words
	Reason          string    `json:"reason,omitempty"`        // why it gets no traffic, or what is about to change, in words

	Flaps       int       `json:"flaps,omitempty"`       // how often it became ill, until that is forgotten
	DampedUntil time.Time `json:"damped_until,omitzero"` // when it is let in, if it stays well
}

// RejectedState is an instance that was left out.
type RejectedState struct {
	ID    string `json:"id"`
	Node  string `json:"node"`
	Error string `json:"error"`
}

package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Compute returns what to do now so that HAProxy comes to run what Consul says.
//
// It takes the steps that can be taken at once and no others: a server that
// gets a new address is only made ready by a later Compute, which has seen the
// address in HAProxy. Called again after each read-back, on the same catalog
// and with checks that pass, it comes to an empty Plan.
func Compute(d Desired, o Observed, snap catalog.Snapshot) Plan {
	decisions := make([]*Decision, 0, len(d.Services))
	for _, s := range d.Services {
		decisions = append(decisions, Decide(s, o, snap.Service(s.Backend)))
	}
	return Combine(d, o, decisions)
}

// Decision is what is to be done for one service: its part of a Plan.
type Decision struct {
	b      *backendPlan
	file   FileBackend // unless the whole file is loaded again
	placed []Placement
	lost   []Loss
	absent []Absence
}

// Decide plans for one service. Of the observed backends it takes the service's
// own.
func Decide(s Service, o Observed, want catalog.Service) *Decision {
	b := newBackendPlan(s, o, want)
	b.decide()
	d := &Decision{b: b, file: b.file(false), lost: b.losses(), absent: b.absences()}
	d.placed = make([]Placement, 0, len(b.want.Instances))
	for i := range b.servers {
		if inst := b.bound[i]; inst != nil {
			d.placed = append(d.placed, Placement{Server: b.servers[i].Name, Instance: *inst})
		}
	}
	return d
}

// IsSettled reports whether HAProxy runs what Consul says of the service, and
// nothing is awaited or has to be remembered: with the same arguments, the decision
// is the same at any later time.
func (d *Decision) IsSettled() bool {
	b := d.b
	if b.Gone && !b.exists {
		return true
	}
	return b.exists && b.want.Known && !b.reweighed &&
		len(b.additions)+len(b.removals)+len(b.waiting)+len(b.unassigned)+len(d.lost)+len(d.absent) == 0
}

// Outcome is what was decided for one service.
type Outcome struct {
	Steps   []Step       `json:"steps"` // in the order in which they are to be taken
	Waiting []Waiting    `json:"waiting"`
	Reload  ReloadReason `json:"reload,omitempty"` // that this service alone needs
}

// Outcome returns what was decided, from these observations.
func (d *Decision) Outcome(o Observed) Outcome {
	return Outcome{
		Steps: slices.Concat(d.b.additions, d.b.removals), Waiting: d.b.waiting,
		Reload: reloadReason(Desired{Marker: o.Marker}, o, []*Decision{d}),
	}
}

// Certain returns the steps for one service if they are right also where HAProxy has
// changed since it was observed: a new server, or another weight or limit of one
// that stays. It gives none if there is any other, for that depends on who is up now.
// made is the decision, for its Outcome only; nil where there is no step.
func Certain(s Service, o Observed, want catalog.Service) (steps []Step, made *Decision) {
	b := newBackendPlan(s, o, want)
	b.decide()
	if len(b.removals) > 0 || len(b.additions) == 0 {
		return nil, nil
	}
	for _, st := range b.additions {
		switch {
		case st.Kind == Add, st.Kind == SetMaxConn:
		case st.Kind == SetWeight && st.Weight > 0 && !st.Agent && !st.Percent:
		default:
			return nil, nil
		}
	}
	return b.additions, &Decision{b: b}
}

// Combine makes the Plan of the decisions for all services, in their order.
func Combine(d Desired, o Observed, decisions []*Decision) Plan {
	var removals []Step
	p := Plan{File: make([]FileBackend, 0, len(decisions)+1), Placed: make(map[string][]Placement, len(decisions))}
	for _, x := range decisions {
		p.Steps = append(p.Steps, x.b.additions...)
		removals = append(removals, x.b.removals...)
		p.Waiting = append(p.Waiting, x.b.waiting...)
		p.Absent = append(p.Absent, x.absent...)
		p.Lost = append(p.Lost, x.lost...)
		p.Placed[x.b.Backend] = x.placed
	}
	p.Steps = append(p.Steps, removals...)
	p.Reload = reloadReason(d, o, decisions)
	if p.Reload == ServiceAdded || p.Reload == ServiceRemoved {
		p.ReloadFor = reloadCauses(o, decisions)
	}
	if o.Marker != d.Marker {
		// HAProxy may have other defaults, and its maps still have the routes of before: the
		// reload brings the backends and takes them.
		p.Steps = slices.DeleteFunc(p.Steps, func(s Step) bool { return s.Kind == AddBackend || s.Kind == UnpublishBackend })
	}
	p.HoldReload = p.Reload == SlotsExhausted && slices.ContainsFunc(p.Waiting, func(w Waiting) bool { return w.Uncounted })
	for _, x := range decisions {
		if x.b.Gone {
			continue
		}
		if p.Reload == NoReload && o.Running {
			p.File = append(p.File, x.file)
			continue
		}
		p.File = append(p.File, x.b.file(true))
		if p.Reload != NoReload {
			p.noteUnproven(x.b)
		}
	}
	if d.Rotation {
		p.File = append(p.File, RotationFile(o.Maintenance))
		slices.SortStableFunc(p.File, func(x, y FileBackend) int { return cmp.Compare(x.Backend, y.Backend) })
	}
	return p
}

// reloadReason names the one reason that a reload is recorded with: of several,
// the one that says most.
func reloadReason(d Desired, o Observed, decisions []*Decision) ReloadReason {
	if !o.Running {
		return NoReload
	}
	missing, unknown, gone, exhausted, reweighed := false, false, false, false, false
	for _, x := range decisions {
		missing = missing || x.b.isMissing()
		unknown = unknown || !x.b.exists && !x.b.want.Known
		gone = gone || x.b.isLeft()
		exhausted = exhausted || len(x.b.unassigned) > 0
		reweighed = reweighed || x.b.reweighed
	}
	switch {
	case o.Marker == Marker{}:
		if unknown {
			// Whatever serves these now is better than a backend without
			// servers.
			return NoReload
		}
		return NotOurs
	case o.Marker.Template != d.Marker.Template:
		return TemplateChanged
	case missing:
		return ServiceAdded
	case gone, o.Marker.Services != d.Marker.Services:
		return ServiceRemoved
	case o.Marker.Settings != d.Marker.Settings, o.Marker.Owner != d.Marker.Owner:
		return SettingsChanged
	case exhausted:
		return SlotsExhausted
	case reweighed:
		return WeightsChanged
	case d.Requested:
		return Requested
	}
	return NoReload
}

// backendPlan is the plan for one backend while it is made.
type backendPlan struct {
	Service
	running bool // HAProxy answers
	exists  bool // HAProxy has this backend
	slots   bool // new servers need a slot
	adds    bool // HAProxy has taken a new server without one
	deletes bool // it can take one away

	backends    bool   // HAProxy adds and deletes backends at runtime
	unpublished bool   // no request is routed to this one
	refused     string // why HAProxy does not add or delete this one at runtime

	want    catalog.Service
	servers []Server                 // as observed, by ID
	byName  map[string]int           // see indexByName, which makes it
	left    []FileServer             // see Backend.Left
	leftBy  map[string]FileServer    // those by name, made when it is first asked for
	absent  map[string]time.Duration // see Observed.Absent
	ended   map[string]time.Duration // see Observed.Ended
	guard   Guard
	listed  map[netip.AddrPort]string // see Observed

	roleLost map[string]bool            // by server's name, those whose instance lacks a tag now
	flapping map[string]bool            // by server's name, those that are to be kept out
	damped   map[*catalog.Instance]bool // those that are

	drained map[*catalog.Instance]bool // those that an operator keeps in drain
	needed  []*catalog.Instance        // those of them that must take traffic all the same

	last []FileServer // while HAProxy does not run

	bound    []*catalog.Instance // of each server; nil: it has none
	free     []int               // indices of slots that may be given away, best first
	freeSoon int                 // slots that HAProxy will free: the last answer of its agent check is awaited, or its sessions are being counted
	// freeBySteps is how many are free once a step has disabled their agent check: one may
	// keep failing.
	freeBySteps int

	// replaced holds, by name, the instances whose server must go before they
	// can have one of that name.
	replaced map[string]*catalog.Instance

	available int // servers that get requests, less those that the steps so far take out

	served              *served                    // made when it is first asked for
	present             map[*catalog.Instance]bool // see presentNow, which makes it
	placed              *placed                    // see placedNow, which makes it
	candidates          []candidate
	additions, removals []Step
	waiting             []Waiting
	added               []FileServer        // servers that additions create
	overdueAdds         int                 // how many of them have failed for too long to be waited for
	unassigned          []*catalog.Instance // instances that wait for a slot, by a reload
	assignedSoon        []*catalog.Instance // those that wait for one that HAProxy will free
	reweighed           bool                // a weight needs a reload
}

func newBackendPlan(s Service, o Observed, want catalog.Service) *backendPlan {
	backend, exists := o.Backends[s.Backend]
	b := &backendPlan{
		Service: s,
		running: o.Running,
		exists:  o.Running && exists,
		slots:   s.ForceSlots || !o.Caps.Dynamic || backend.Refuses,
		adds:    backend.Adds,
		deletes: o.Caps.Dynamic,

		backends:    o.Caps.Backends,
		unpublished: backend.Unpublished,
		refused:     o.Refused[s.Backend],

		want:   want,
		absent: o.Absent[s.Backend],
		ended:  o.Ended[s.Backend],
		guard:  o.Guards[s.Backend],
		listed: o.Listed,

		flapping: o.Flapping[s.Backend],
		left:     backend.Left,
	}
	b.Static = b.Static || backend.Static
	b.drainForOperator(o.Drained[s.Backend])
	if !o.Running {
		b.last = slices.DeleteFunc(slices.Clone(o.Last[s.Backend]), func(f FileServer) bool { return slices.Contains(s.Operator, f.Name) })
		for i := range b.last {
			b.last[i].AgentPort = s.filedAgentPort(b.last[i].AgentPort)
		}
	}
	if b.exists {
		b.servers = backend.Servers
		if len(s.Operator) > 0 {
			b.servers = slices.DeleteFunc(slices.Clone(b.servers), func(x Server) bool { return slices.Contains(s.Operator, x.Name) })
		}
		byID := func(x, y Server) int { return cmp.Compare(x.ID, y.ID) }
		if !slices.IsSortedFunc(b.servers, byID) {
			b.servers = slices.SortedFunc(slices.Values(b.servers), byID)
		}
	}
	b.bound = make([]*catalog.Instance, len(b.servers))
	if s.Gone {
		b.leaveWhole()
	}
	return b
}

// decide fills in the steps, or nothing where it is not known what to do.
func (b *backendPlan) decide() {
	if !b.want.Known {
		b.wait(nil, nil, ForConsul)
		b.silenceDisabled()
		return
	}
	if b.whole() {
		return
	}
	b.roleLost = b.lostRoles()
	b.available = b.countAvailable()
	unassigned := b.bind()
	b.damp(unassigned)
	for i := range b.servers {
		if inst := b.bound[i]; inst != nil && b.role(inst) == in {
			b.keep(i, inst)
		}
	}
	for _, inst := range unassigned {
		if b.role(inst) == in {
			b.assign(inst)
		}
	}
	b.waitForOthers()
	b.move()
	b.retire()
	b.orderWeights()
	b.publish()
}

// role is what an instance should do on this load balancer.
type role uint8

const (
	in       role = iota // take traffic
	draining             // finish what it has
	out                  // take nothing
)

func (b *backendPlan) role(i *catalog.Instance) role {
	switch {
	case !i.Leaving.IsZero(), i.Health == catalog.Maintenance:
		return draining
	case b.drained[i]:
		return draining
	case i.Health == catalog.Critical, i.Health == catalog.Warning && !b.Warning, b.damped[i]:
		return out
	}
	return in
}

func (b *backendPlan) wait(s *Server, i *catalog.Instance, what WaitReason) {
	w := Waiting{Backend: b.Backend, For: what}
	if s != nil {
		w.Server = s.Name
		switch what {
		case ForSessions:
			w.Sessions, w.Uncounted = s.Sessions, s.Uncounted && i != nil && !i.Leaving.IsZero()
		case ForCheck:
			w.Check, w.Down = s.Check, s.SinceChange
			w.Check.Path = b.Path
		case ForReplacement, ForGuard, ForDamping, ForSlot, ForAgent, ForConsul:
		}
	}
	if i != nil {
		w.Instance = i.ID
		if s == nil {
			w.Server = i.Server
		}
	}
	b.waiting = append(b.waiting, w)
}

func (b *backendPlan) step(kind Kind, reason Reason, s *Server, i *catalog.Instance) Step {
	st := Step{Kind: kind, Reason: reason, Backend: b.Backend, Server: s.Name}
	if i != nil {
		st.Instance = i.ID
	}
	switch kind {
	case EnableAgent:
		st.AgentPort, st.Prove = b.agentPort(i), b.isFailing(s)
	case SetReady:
		if st.Agent = s.Agent != NoAgent && i.Weight > 0; st.Agent {
			st.AgentPort, st.Prove = b.agentPort(i), s.Admin == Drain && b.isFailing(s)
		}
		st.Addr = s.Addr
	case SetDrain, SetMaint:
		st.Agent = s.Agent == AgentOn
	case SetWeight:
		st.Agent, st.Percent = s.Agent == AgentOn, b.fixesWeight(s)
	case Add, Delete, SetMaxConn, SetAddr, EnableHealth, DisableAgent, Shutdown:
	case AddBackend, PublishBackend, UnpublishBackend, DeleteBackend: // see whole.go
	}
	return st
}

// isFailing reports whether a server is down and its check goes on. To enable its agent
// would make it up (docs/haproxy-facts.md, fact 38).
func (b *backendPlan) isFailing(s *Server) bool { return b.Checked && !s.NoCheck && !s.Up }

// drifted reports whether we left the server other than it is now found, in
// the sense of differs: someone else has changed it.
func (b *backendPlan) drifted(s *Server, differs func(left FileServer) bool) bool {
	left, seen := b.leftAs(s.Name)
	return seen && differs(left)
}

// leftAs returns a server as we left it, if we have.
func (b *backendPlan) leftAs(name string) (f FileServer, seen bool) {
	if b.leftBy == nil {
		b.leftBy = make(map[string]FileServer, len(b.left))
		for _, f := range b.left {
			b.leftBy[f.Name] = f
		}
	}
	f, seen = b.leftBy[name]
	return f, seen
}

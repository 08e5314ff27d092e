package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Compute gives what to do now so that HAProxy comes to run what Consul says.
//
// It takes the steps that can be taken at once and no others: a server that
// gets a new address is only made ready by a later Compute, which has seen the
// address in HAProxy. Called again after each read-back, on the same catalog
// and with checks that pass, it comes to an empty Plan.
func Compute(d Desired, o Observed, snap catalog.Snapshot) Plan {
	var p Plan
	var removals []Step
	parts := make([]*part, 0, len(d.Services))
	exhausted := false
	for _, s := range d.Services {
		b := newPart(s, o, snap.Service(s.Name))
		b.decide()
		p.Absent = append(p.Absent, b.absences()...)
		parts = append(parts, b)
		p.Steps = append(p.Steps, b.additions...)
		removals = append(removals, b.removals...)
		p.Waiting = append(p.Waiting, b.waiting...)
		p.Lost = append(p.Lost, b.losses()...)
		exhausted = exhausted || len(b.homeless) > 0
	}
	p.Steps = append(p.Steps, removals...)
	p.Reload = reloadReason(d, o, parts, exhausted)
	for _, b := range parts {
		p.File = append(p.File, b.file(p.Reload != NoReload || !o.Running))
		if p.Reload != NoReload {
			p.noteUnproven(b)
		}
		p.Placed = slices.Grow(p.Placed, len(b.bound))
		for i := range b.servers {
			if inst := b.bound[i]; inst != nil {
				p.Placed = append(p.Placed, Placement{Backend: b.Backend, Server: b.servers[i].Name, Instance: *inst})
			}
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
func reloadReason(d Desired, o Observed, parts []*part, exhausted bool) ReloadReason {
	if !o.Running {
		return NoReload
	}
	missing, unknown := false, false
	for _, b := range parts {
		missing = missing || !b.exists
		unknown = unknown || !b.exists && !b.want.Known
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
	case o.Marker.Services != d.Marker.Services:
		return ServiceRemoved
	case o.Marker.Settings != d.Marker.Settings:
		return SettingsChanged
	case exhausted:
		return SlotsExhausted
	case slices.ContainsFunc(parts, func(b *part) bool { return b.reweighed }):
		return WeightsChanged
	}
	return NoReload
}

// part is the plan for one backend while it is made.
type part struct {
	Service
	running bool // HAProxy answers
	exists  bool // HAProxy has this backend
	slots   bool // new servers need a slot
	adds    bool // HAProxy has taken a new server without one
	deletes bool // it can take one away
	want    catalog.Service
	servers []Server                 // as observed, by ID
	left    []FileServer             // see Backend.Left
	leftBy  map[string]FileServer    // those by name, made when it is first asked for
	absent  map[string]time.Duration // see Observed.Absent
	guard   Guard

	flapping map[string]bool            // by server's name, those that are to be kept out
	damped   map[*catalog.Instance]bool // those that are

	last []FileServer // while HAProxy does not run

	bound    map[int]*catalog.Instance // by index in servers
	free     []int                     // indices of slots that may be given away, best first
	freeSoon int                       // slots that may be once their agent check is off

	// replaced holds, by name, the instances whose server must go before they
	// can have one of that name.
	replaced map[string]*catalog.Instance

	available int // servers that get requests, less those that the steps so far take out

	served              *served // made when it is first asked for
	candidates          []candidate
	additions, removals []Step
	waiting             []Waiting
	added               []FileServer        // servers that additions create
	overdueAdds         int                 // how many of them have failed for too long to be waited for
	homeless            []*catalog.Instance // instances that wait for a slot
	reweighed           bool                // a weight needs a reload
}

func newPart(s Service, o Observed, want catalog.Service) *part {
	backend, exists := o.Backends[s.Backend]
	b := &part{
		Service: s,
		running: o.Running,
		exists:  o.Running && exists,
		slots:   s.ForceSlots || !o.Caps.Dynamic || backend.Refuses,
		adds:    backend.Adds,
		deletes: o.Caps.Dynamic,
		want:    want,
		absent:  o.Absent[s.Backend],
		guard:   o.Guards[s.Backend],

		flapping: o.Flapping[s.Backend],
		bound:    make(map[int]*catalog.Instance, len(want.Instances)),
		left:     backend.Left,
	}
	b.Static = b.Static || backend.Static
	if !o.Running {
		b.last = slices.DeleteFunc(slices.Clone(o.Last[s.Backend]), func(f FileServer) bool { return slices.Contains(s.Operator, f.Name) })
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
	return b
}

// decide fills in the steps, or nothing where it is not known what to do.
func (b *part) decide() {
	if !b.want.Known || b.want.Old {
		b.wait(nil, nil, ForConsul)
	}
	if b.want.Old && b.exists && !b.isUsed() {
		b.fill()
	}
	if !b.want.Known || b.want.Old {
		b.silenceDisabled()
		return // what HAProxy runs is newer than what was saved
	}
	if !b.exists {
		return // the file brings the whole backend
	}
	b.available = b.countAvailable()
	homeless := b.bind()
	b.damp(homeless)
	for i := range b.servers {
		if inst := b.bound[i]; inst != nil && b.role(inst) == in {
			b.keep(i, inst)
		}
	}
	for _, inst := range homeless {
		if b.role(inst) == in {
			b.house(inst)
		}
	}
	b.move()
	b.retire()
}

// isUsed reports whether HAProxy has a server here that is somebody's.
func (b *part) isUsed() bool {
	return slices.ContainsFunc(b.servers, func(s Server) bool { return !s.IsFreeSlot() })
}

// fill gives a backend without servers those that were saved: there is nothing
// newer that they could undo.
func (b *part) fill() {
	for _, inst := range b.bind() {
		if b.role(inst) == in {
			b.house(inst)
		}
	}
	for i := range b.servers {
		if inst := b.bound[i]; inst != nil && b.role(inst) == in {
			b.keep(i, inst)
		}
	}
}

// role is what an instance should do on this load balancer.
type role uint8

const (
	in       role = iota // take traffic
	draining             // finish what it has
	out                  // take nothing
)

func (b *part) role(i *catalog.Instance) role {
	switch {
	case !i.Leaving.IsZero(), i.Health == catalog.Maintenance:
		return draining
	case i.Health == catalog.Critical, i.Health == catalog.Warning && !b.Warning, b.damped[i]:
		return out
	}
	return in
}

func (b *part) wait(s *Server, i *catalog.Instance, what WaitReason) {
	w := Waiting{Backend: b.Backend, For: what}
	if s != nil {
		w.Server = s.Name
		if what == ForSessions {
			w.Sessions = s.Sessions
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

func (b *part) step(kind Kind, reason Reason, s *Server, i *catalog.Instance) Step {
	st := Step{Kind: kind, Reason: reason, Backend: b.Backend, Server: s.Name}
	if i != nil {
		st.Instance = i.ID
	}
	switch kind {
	case SetReady:
		st.Agent = s.Agent != NoAgent && i.Weight > 0
		if isSlot(s) {
			st.Addr = s.Addr
		}
	case SetDrain, SetMaint:
		st.Agent = s.Agent == AgentOn
	case SetWeight:
		st.Agent, st.Percent = s.Agent == AgentOn, b.fixesWeight(s)
	case Add, Delete, SetMaxConn, SetAddr, EnableHealth, EnableAgent, DisableAgent, Shutdown:
	}
	return st
}

// drifted reports whether we left the server other than it is now found, in
// the sense of differs: someone else has changed it.
func (b *part) drifted(s *Server, differs func(left FileServer) bool) bool {
	left, seen := b.leftAs(s.Name)
	return seen && differs(left)
}

// leftAs gives a server as we left it, if we have.
func (b *part) leftAs(name string) (f FileServer, seen bool) {
	if b.leftBy == nil {
		b.leftBy = make(map[string]FileServer, len(b.left))
		for _, f := range b.left {
			b.leftBy[f.Name] = f
		}
	}
	f, seen = b.leftBy[name]
	return f, seen
}

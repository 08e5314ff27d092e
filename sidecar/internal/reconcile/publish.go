package reconcile

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// noteApplied records the services that HAProxy was now seen to run as Consul
// has them, and how long that took since Consul said so.
func (a *Agent) noteApplied(p plan.Plan) {
	busy := map[string]bool{}
	for _, s := range p.Steps {
		busy[s.Backend] = true
	}
	for _, w := range p.Waiting {
		if w.For == plan.ForSlot || w.For == plan.ForConsul {
			busy[w.Backend] = true
		}
	}
	all := p.Reload == plan.NoReload
	for _, s := range a.set.Services {
		if s.Gone {
			continue
		}
		_, exists := a.known.observed.Backends[s.Backend]
		if !exists || busy[s.Backend] {
			all = false
			continue
		}
		changed := a.known.seen[s.Backend]
		was, before := a.applied[s.Backend]
		if before && was.change.Equal(changed) {
			continue
		}
		now := time.Now()
		is := applied{change: changed, at: now}
		if before {
			// The first answer is no change: what it took is the start's time.
			is.took = now.Sub(changed)
			a.record.Applied(s.Name, is.took)
		}
		a.applied[s.Backend] = is
	}
	if all && !a.converged {
		a.converged = true
		a.log.Info("ready, HAProxy matches Consul", "services", len(a.set.Services))
	}
}

// publish makes the new State.
func (a *Agent) publish(snap catalog.Snapshot, p plan.Plan) {
	o, f, r := a.known.observed, &a.files, &a.reloads
	s := &State{
		LoadBalancer: a.name, Version: a.version, Started: a.started,
		Converged: a.converged,
		HAProxy:   HAProxyState{Running: o.Running, Stopped: a.stopped, Version: o.Caps.Version, OldWorkers: a.old.n, OldWorkersUnknown: a.old.unknown, OldWorkersMemory: a.old.memory, Maintenance: o.Maintenance, Error: a.trouble.haproxy},
		File:      FileState{Path: a.file.Path(), Current: f.current && !a.turns.isBehind(&a.known), Pending: r.running != nil || f.isPending(), Written: f.written, PutBack: f.putBack, Error: text(f.err), LeftOut: a.leftOutState()},
		Reloads: ReloadState{
			Succeeded: r.succeeded, Failed: r.failures, Last: r.last, LastReason: string(r.lastReason),
			Pending: string(r.reason), For: causes(p), LastFor: r.lastFor, UnderWay: r.running != nil, WaitsFor: r.held, NotBefore: a.reloadNotBefore(p), Error: text(r.err),
		},
		ReloadRequests: append([]ReloadRequest{}, r.requests...),
		Services:       make([]ServiceState, 0, len(a.set.Services)), Drains: append([]catalog.OperatorDrain{}, a.drains.now...),
		Frontends: a.frontendStates(),
	}
	s.Behind = a.noteBehind(snap, p)
	s.Ready, s.NotReady = a.readiness(p, s.Behind)
	if o.Running {
		s.HAProxy.PID = o.PID
	}
	rollouts := a.rolloutsError()
	s.Consul.Reachable, s.Consul.RolloutsError, s.Consul.RolloutsUnknown = true, text(rollouts), errors.Is(rollouts, catalog.ErrWithoutRollouts)
	s.Consul.PausesError = a.set.Pauses.Error
	waiting, isPending := waitingByServer(p), func(string) bool { return false }
	if s.File.Pending {
		isPending = a.pendingFor(p)
	}
	for _, svc := range a.published() {
		health := a.catalog.Health(svc.Backend)
		state := a.serviceState(*svc, snap.Service(svc.Backend), health, p, waiting[svc.Backend])
		state.Pause = a.pauseState(*svc)
		state.filePending = isPending(svc.Backend)
		s.Consul.take(&state, health)
		s.Services = append(s.Services, state)
	}
	a.old.note(s)
	s.empty, s.gone = maps.Clone(a.old.empty), a.goneWithServers()
	a.show(s)
	a.record.State(s)
}

// published returns the services of a State, in its order.
func (a *Agent) published() []*plan.Service {
	if len(a.set.Services) == 0 {
		return nil
	}
	if a.inOrder.of != &a.set.Services[0] {
		all := make([]*plan.Service, 0, len(a.set.Services))
		for i := range a.set.Services {
			if !a.set.Services[i].Gone {
				all = append(all, &a.set.Services[i])
			}
		}
		slices.SortFunc(all, func(x, y *plan.Service) int {
			return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Backend, y.Backend))
		})
		a.inOrder.of, a.inOrder.all = &a.set.Services[0], all
	}
	return a.inOrder.all
}

// take adds what one service tells of Consul.
func (c *ConsulState) take(s *ServiceState, h catalog.SourceHealth) {
	if h.Err != nil || h.Answered.IsZero() {
		c.Reachable = false
	}
	if s.Error != "" && c.Error == "" {
		c.Error = s.Error
	}
	if c.LastContact.IsZero() || h.Answered.Before(c.LastContact) {
		c.LastContact = h.Answered
	}
}

// waitingByServer returns what the next change of each server waits for, by backend.
func waitingByServer(p plan.Plan) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, w := range p.Waiting {
		if out[w.Backend] == nil {
			out[w.Backend] = map[string]string{}
		}
		out[w.Backend][w.Server] = string(w.For)
	}
	return out
}

// shown is what a service's state was made from, and what of it takes long to make.
type shown struct {
	decision  *plan.Decision
	instances []InstanceState
	rejected  []RejectedState
	freeSlots int
	beyond    int

	outputs []catalog.CheckOutput
}

// find returns the state of a server at an address, or nil.
func (s shown) find(name, addr string) *InstanceState {
	i, has := slices.BinarySearchFunc(s.instances, name, func(x InstanceState, name string) int { return cmp.Compare(x.Server, name) })
	if !has || s.instances[i].Addr != addr {
		return nil
	}
	return &s.instances[i]
}

func (a *Agent) serviceState(svc plan.Service, want catalog.Service, h catalog.SourceHealth, p plan.Plan, waiting map[string]string) ServiceState {
	s := ServiceState{
		Name: svc.Name, Backend: svc.Backend, Known: want.Known, Index: want.Index,
		Answered: h.Answered, Error: text(h.Err), Applied: a.applied[svc.Backend].at, AppliedAfter: float64(a.applied[svc.Backend].took.Microseconds()) / 1000,
		Guard: a.guardState(svc),
	}
	running, decision := a.known.observed.Running, a.decided.decisions[svc.Backend]
	was := a.shown[svc.Backend]
	isSkipped := a.turns.skipped[svc.Backend] && was.decision != nil
	isShown := was.decision == decision && len(a.flaps.hot[svc.Backend]) == 0 && slices.Equal(was.outputs, want.Outputs)
	if running && decision != nil && (isSkipped || isShown) {
		s.Instances, s.Rejected, s.FreeSlots, s.BeyondLimit = was.instances, was.rejected, was.freeSlots, was.beyond
		s.Rollout = rolloutState(want.Rollout, s.Instances)
		return s
	}
	s.Instances, s.Rejected = make([]InstanceState, 0, len(want.Instances)+1), []RejectedState{}
	for _, r := range want.Rejected {
		s.Rejected = append(s.Rejected, RejectedState{ID: r.ID, Node: r.Node, Error: r.Err.Error()})
	}
	s.BeyondLimit = want.BeyondLimit()
	if running { // else what was read last is gone
		s.addServers(&a.known, svc, p, was)
		if !want.Known {
			s.unlisted()
		}
	} else {
		s.addFiled(p, want)
		decision = nil // this is not made from it
	}
	s.addUnplaced(want)
	drains := a.drainsOf(svc.Name, want)
	untagged := make(map[string]bool, len(want.Untagged))
	for i := range want.Untagged {
		untagged[want.Untagged[i].Addr.String()] = true
	}
	isServed := slices.ContainsFunc(s.Instances, func(i InstanceState) bool { return i.TakesTraffic() && !i.Backup })
	for i := range s.Instances {
		inst := &s.Instances[i]
		inst.ConsulCheck = want.Output(inst.ID, inst.Node)
		inst.Standby = isServed && inst.Backup && inst.TakesTraffic()
		inst.Drain = drains[instanceKey{inst.Node, inst.ID}]
		inst.Waiting = waiting[inst.Server]
		if inst.Health == healthUnknown {
			inst.Waiting = string(plan.ForConsul)
		}
		inst.RoleLost = inst.ID == "" && !inst.Own && untagged[inst.Addr]
		if f := a.flaps.hot[svc.Backend][instanceKey{inst.Node, inst.ID}]; f != nil {
			inst.Flaps = f.n
			if inst.Waiting == string(plan.ForDamping) {
				inst.DampedUntil = f.until(time.Now(), a.set.Damping[svc.Backend])
			}
		}
		inst.Reason, inst.NoDrain = inst.reason(running), inst.drainRefused()
	}
	s.Guard.Until = s.heldUntil(svc)
	s.Rollout = rolloutState(want.Rollout, s.Instances)
	slices.SortFunc(s.Instances, func(x, y InstanceState) int { return cmp.Compare(x.Server, y.Server) })
	a.shown[svc.Backend] = shown{decision, s.Instances, s.Rejected, s.FreeSlots, s.BeyondLimit, want.Outputs}
	return s
}

func (a *Agent) guardState(svc plan.Service) (g GuardState) {
	g.Held, g.Since = a.guard.held(svc.Backend)
	if svc.Hold > 0 && !g.Since.IsZero() {
		g.Until = g.Since.Add(svc.Hold)
	}
	return g
}

// heldUntil is when the hold ends by its time. Where Consul lists none of the held
// servers, theirs counts, if that is sooner.
func (s *ServiceState) heldUntil(svc plan.Service) time.Time {
	g := s.Guard
	isListed := func(i InstanceState) bool {
		_, isHeld := slices.BinarySearch(g.Held, i.Server) // they are sorted
		return isHeld && i.ID != ""
	}
	if svc.HoldDeregistered == 0 || len(g.Held) == 0 || slices.ContainsFunc(s.Instances, isListed) {
		return g.Until
	}
	if until := g.Since.Add(svc.HoldDeregistered); g.Until.IsZero() || until.Before(g.Until) {
		return until
	}
	return g.Until
}

// addServers adds what HAProxy runs, with what Consul says of it.
func (s *ServiceState) addServers(k *observedCache, svc plan.Service, p plan.Plan, was shown) {
	b, standings := k.observed.Backends[svc.Backend], k.standings[svc.Backend]
	placed := make(map[string]*catalog.Instance, len(b.Servers))
	for i, pl := range p.Placed[svc.Backend] {
		placed[pl.Server] = &p.Placed[svc.Backend][i].Instance
	}
	for _, srv := range b.Servers {
		inst, listed := placed[srv.Name]
		if !listed && srv.IsFreeSlot() {
			s.FreeSlots++
			continue
		}
		st := InstanceState{
			Server: srv.Name, Addr: srv.Addr.String(), Health: healthGone, Own: slices.Contains(svc.Operator, srv.Name),
			Admin: srv.Admin.String(), Agent: srv.Agent.String(), Weight: srv.Weight, Sessions: srv.Sessions, Phase: phase(srv), Backup: srv.Backup,
			Since: standings[srv.Name].since.Truncate(time.Second),
		}
		if st.Phase == PhaseStarting && was.wasUp(st.Server, st.Addr) {
			st.Phase = PhaseDown
		}
		if srv.Check.Status != "" {
			check := srv.Check
			check.Path = svc.Path
			st.Check = check.String()
		}
		if listed {
			st.ID, st.Node, st.Version, st.Health, st.ByShare = inst.ID, inst.Node, inst.Version, inst.Health.String(), inst.ByShare
			st.Leaving = !inst.Leaving.IsZero()
			if srv.Addr != inst.Addr {
				st.MovesTo = inst.Addr.String()
			}
		}
		st.weigh(inst, srv.Agent, b.Static || svc.Static)
		s.Instances = append(s.Instances, st)
	}
}

// weigh compares the weight that is in effect with Consul's. inst is nil for a server that
// Consul does not list; isStatic is whether the balance algorithm takes no weight at runtime.
func (i *InstanceState) weigh(inst *catalog.Instance, agent plan.Agent, isStatic bool) {
	if i.Phase == PhaseUp {
		i.EffectiveWeight = i.Weight
	}
	if inst == nil {
		return
	}
	i.ConsulWeight = inst.ConsulWeight()
	switch {
	case i.EffectiveWeight == i.ConsulWeight:
	case i.Phase == PhaseDraining, i.Phase == PhaseDrained:
		i.WeightReason = "drain"
	case i.Phase == PhaseOut:
		i.WeightReason = "maint"
	case i.Phase != PhaseUp:
		i.WeightReason = "HAProxy's check"
	case inst.ByShare && i.Weight == inst.Weight:
		i.WeightReason = "the rollout's share"
	case agent.Decides():
		i.WeightReason = "its agent check"
	case isStatic:
		i.WeightReason = "the balance algorithm takes weights at a reload only"
	default:
		i.WeightReason = "not applied yet"
	}
}

// unlisted takes back that Consul does not list the servers: it has not answered yet.
func (s *ServiceState) unlisted() {
	for i := range s.Instances {
		if inst := &s.Instances[i]; inst.Health == healthGone && !inst.Own {
			inst.Health = healthUnknown
		}
	}
}

// addFiled adds the servers that the file keeps for a HAProxy that does not run,
// though Consul does not want them there: it will have them when it starts.
func (s *ServiceState) addFiled(p plan.Plan, want catalog.Service) {
	listed := make(map[netip.AddrPort]bool, len(want.Instances))
	for _, inst := range want.Instances {
		listed[inst.Addr] = inst.Leaving.IsZero()
	}
	i, has := slices.BinarySearchFunc(p.File, s.Backend, func(b plan.FileBackend, name string) int { return cmp.Compare(b.Backend, name) })
	if !has {
		return
	}
	for _, f := range p.File[i].Servers {
		if !f.Disabled && !listed[f.Addr] {
			s.Instances = append(s.Instances, InstanceState{Server: f.Name, Addr: f.Addr.String(), Health: healthGone, Phase: PhaseUnknown, Weight: f.Weight})
		}
	}
}

// addUnplaced adds the instances that have no server.
func (s *ServiceState) addUnplaced(want catalog.Service) {
	have := make(map[[2]string]bool, len(s.Instances))
	for _, i := range s.Instances {
		have[[2]string{i.ID, i.Node}] = true
	}
	for _, inst := range want.Instances {
		if !have[[2]string{inst.ID, inst.Node}] {
			s.Instances = append(s.Instances, InstanceState{
				ID: inst.ID, Node: inst.Node, Server: inst.Server, Addr: inst.Addr.String(), Version: inst.Version,
				Health: inst.Health.String(), Leaving: !inst.Leaving.IsZero(), Phase: PhaseUnknown, Weight: inst.Weight, ByShare: inst.ByShare, ConsulWeight: inst.ConsulWeight(),
			})
		}
	}
}

// startingFor is how long a server that has just become ready is said to
// start rather than to be down.
const startingFor = 30 * time.Second

func phase(s plan.Server) Phase {
	switch {
	case s.Admin == plan.Maint:
		return PhaseOut
	case s.Admin == plan.Drain && s.Sessions == 0:
		return PhaseDrained
	case s.Admin == plan.Drain:
		return PhaseDraining
	case s.Up:
		return PhaseUp
	case s.SinceChange < startingFor:
		return PhaseStarting
	}
	return PhaseDown
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

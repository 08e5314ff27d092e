package reconcile

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// maxRounds bounds how often one pass plans and applies, so that the loop does what else is
// due. A server's way takes four steps at most, but where slots are few, many servers go it
// one after another, and the next pass goes on. What comes again on the way is stuck, and waits.
const maxRounds = 16

// converge reads, plans and applies until nothing is left to do or what is
// left does not go through now. It gives the last plan, also with an error.
func (a *Agent) converge(ctx context.Context, snap catalog.Snapshot) (plan.Plan, error) {
	var p plan.Plan
	a.chain.begin()
	for round := range maxRounds {
		ran := a.known.observed.Running
		err := a.known.read(ctx, a.haproxy, a.set, a.turns.skipped)
		if stop := cmp.Or(ctx.Err(), another(err)); stop != nil {
			return p, stop // what fails now fails for that
		}
		a.stopped = errors.Is(err, plan.ErrNotRunning)
		a.files.fresh = a.files.fresh && (err != nil || a.turns.isUnread(&a.known)) && !a.stopped
		if err != nil {
			a.note(err)
			p = a.planUnread(ctx, snap, ran)
			return p, err
		}
		a.note(nil)
		a.noteRan()
		a.noteMaintenance()
		o := a.known.observed
		p = a.compute(o, snap)
		p.Steps = a.holdLed(p.Steps)
		a.turns.planned(p.Steps, a.jitter)
		due := a.turns.due(a.trouble.due(a.sendable(p.Steps)))
		if moving, wait := a.moves.await(o, a.turns.skipped); len(moving) > 0 {
			due = a.besides(moving, due)
			if len(due) == 0 {
				pause(ctx, wait)
				a.moves.waited(moving)
				continue
			}
		}
		if len(p.Steps) == 0 {
			a.chain.isOpen = false
			a.trouble.resolved(a.log)
			break
		}
		a.chain.isOpen = a.chain.goesOn(due)
		if len(due) == 0 || round == maxRounds-1 || a.chain.isStalled(due) { // sent steps are read back
			break
		}
		a.apply(ctx, due)
		a.turns.noteSent(due)
		a.chain.note(due)
	}
	if !a.chain.isOpen {
		a.chain.end()
		a.trouble.stick(a.sendable(a.turns.small(p.Steps)), a.jitter)
	}
	a.pollFor(p.Waiting)
	return p, nil
}

// pollFor has the backends read again in which HAProxy will end what is awaited.
func (a *Agent) pollFor(waiting []plan.Waiting) {
	for _, w := range waiting {
		switch w.For {
		case plan.ForConsul, plan.ForGuard, plan.ForDamping, plan.ForAgent: // nothing in HAProxy will end it
		case plan.ForSessions, plan.ForReplacement, plan.ForCheck, plan.ForSlot:
			if a.turns.poll(w.Backend) {
				a.known.touch(w.Backend)
			}
		}
	}
}

// planUnread plans what the file must hold while HAProxy cannot be read. ran says that it
// could be until now.
func (a *Agent) planUnread(ctx context.Context, snap catalog.Snapshot, ran bool) plan.Plan {
	if ran {
		a.last = a.known.traffic()
	}
	a.chain.end()
	a.forgetAnnounced()
	a.known.absent, a.known.ended = nil, nil
	o := plan.Observed{Caps: a.caps(ctx), Maintenance: a.known.observed.Maintenance, Last: a.last, Drained: a.drains.backend}
	p := plan.Compute(a.desired(), o, snap)
	a.keepFiled(p)
	return p
}

// besides leaves out the steps for these backends, which are read again before the next plan.
func (a *Agent) besides(backends map[string]bool, steps []plan.Step) []plan.Step {
	for backend := range backends {
		a.known.touch(backend)
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool { return backends[s.Backend] })
}

// another returns errAnotherProcess, or nil.
func another(err error) error {
	if errors.Is(err, errAnotherProcess) {
		return err
	}
	return nil
}

// anticipate sends the steps that a change in Consul certainly takes, before HAProxy
// is read: for a large service that takes longer than all else. What has been sent is
// still read back.
func (a *Agent) anticipate(ctx context.Context, snap catalog.Snapshot, changed []plan.Service) {
	o := a.known.observed
	if a.known.stale == nil || !o.Running || o.Marker != a.set.Renderer.Marker() || a.trouble.wait() > 0 {
		return
	}
	now := time.Now()
	a.recall(&o, now)
	var steps []plan.Step
	for _, s := range changed {
		if a.decided.settled(s.Backend, o) == nil {
			continue
		}
		want := snap.Service(s.Backend)
		certain, made := plan.Certain(s, o, want)
		if made != nil {
			a.recordDecided(s, o, want, made)
		}
		steps = append(steps, a.turns.due(certain)...)
	}
	if len(steps) > 0 {
		a.apply(ctx, steps)
	}
}

// recall adds to an observation what is remembered.
func (a *Agent) recall(o *plan.Observed, now time.Time) {
	o.Guards, o.Flapping, o.Absent, o.Drained, o.Ended = a.guard.recall(now), a.flapping(now), a.known.absences(now), a.drains.backend, a.known.ended
	o.Refused = a.known.whyRefused()
}

// compute plans with what is remembered, and remembers what the plan tells. A
// service for which nothing has changed since it was settled is not planned again.
func (a *Agent) compute(o plan.Observed, snap catalog.Snapshot) plan.Plan {
	now := time.Now()
	a.recall(&o, now)
	d := a.desired()
	a.decided.use(d, o, a.set.Services)
	if len(a.guard.backends) > 0 {
		o.Listed = a.listed()
	}
	p := a.decide(d, o, snap)
	if held := p.HeldBackends(); o.Listed == nil && len(held) > 0 {
		o.Listed = a.listed() // what is lost now may be reused already
		for _, backend := range held {
			a.decided.forget(backend)
		}
		p = a.decide(d, o, snap)
	}
	for _, m := range a.decided.made {
		if m.made == a.decided.decisions[m.service.Backend] { // else another one has taken its place
			a.recordDecided(m.service, m.observed, m.want, m.made)
		}
	}
	a.decided.made = nil
	a.guard.remember(now, p)
	a.known.noteAbsent(now, p)
	a.known.forgetEnded(p)
	a.known.settled(p, a.turns.skipped)
	return p
}

// listed has the addresses at which Consul lists an instance: see plan.Observed.
func (a *Agent) listed() map[netip.AddrPort]string {
	at := map[netip.AddrPort]string{}
	for _, svc := range a.set.Services {
		s := a.told.Service(svc.Backend)
		if !s.Known {
			continue
		}
		for i := range s.Instances {
			addr, name := s.Instances[i].Addr, svc.Name
			if other, found := at[addr]; found && other != name {
				name = ""
			}
			at[addr] = name
		}
	}
	return at
}

// decide plans the services of which something has changed.
func (a *Agent) decide(d plan.Desired, o plan.Observed, snap catalog.Snapshot) plan.Plan {
	decisions := make([]*plan.Decision, 0, len(d.Services))
	for _, s := range d.Services {
		decision := a.decided.settled(s.Backend, o)
		isFresh := a.known.fresh[s.Backend]
		if last := a.decided.decisions[s.Backend]; a.turns.skipped[s.Backend] && last != nil {
			decision, isFresh = last, false
		}
		if decision == nil || isFresh {
			want := snap.Service(s.Backend)
			inputs := inputsOf(s.Backend, o, want, a.known.seen[s.Backend])
			if decision = a.decided.same(s.Backend, inputs); decision != nil {
				delete(a.known.fresh, s.Backend)
			} else {
				decision = plan.Decide(s, o, want)
				a.decided.made = append(a.decided.made, made{s, o, want, decision})
				a.decided.keep(s.Backend, decision, inputs)
				a.known.fresh[s.Backend] = true
			}
		}
		decisions = append(decisions, decision)
	}
	return plan.Combine(d, o, decisions)
}

// decided holds the last decision for each backend.
type decided struct {
	key       decidedFor
	decisions map[string]*plan.Decision
	inputs    map[string]decisionInputs // of those that can be compared
	made      []made                    // since the last pass, to be recorded
}

// made is a decision, with what it was made from.
type made struct {
	service  plan.Service
	observed plan.Observed
	want     catalog.Service
	made     *plan.Decision
}

// decisionInputs is what a decision was made from, besides decidedFor.
type decisionInputs struct {
	isWhole bool // it was made from nothing else: nothing is remembered of the backend
	exists  bool
	backend plan.Backend
	seen    time.Time // when Consul's answer changed
}

func inputsOf(backend string, o plan.Observed, want catalog.Service, seen time.Time) decisionInputs {
	_, isGuarded := o.Guards[backend]
	in := decisionInputs{seen: seen}
	in.isWhole = want.Known && !isGuarded && o.Listed == nil && len(o.Flapping[backend])+len(o.Absent[backend])+len(o.Drained[backend])+len(o.Ended[backend])+len(o.Refused[backend]) == 0
	in.backend, in.exists = o.Backends[backend]
	return in
}

// decidedFor is what all decisions depend on.
type decidedFor struct {
	services *plan.Service // the first of the settings: other settings are another list
	marker   plan.Marker
	ran      plan.Marker
	pid      int
	caps     plan.Capabilities
}

// use forgets all decisions if what they depend on has changed.
func (k *decided) use(d plan.Desired, o plan.Observed, set []plan.Service) {
	key := decidedFor{marker: d.Marker, ran: o.Marker, pid: o.PID, caps: o.Caps}
	if len(set) > 0 {
		key.services = &set[0]
	}
	if k.key != key || k.decisions == nil {
		*k = decided{key: key, decisions: make(map[string]*plan.Decision, len(d.Services)), inputs: make(map[string]decisionInputs, len(d.Services))}
	}
}

// same returns a backend's decision if it was made from just that, or nil. Compute is
// a pure function: it would decide the same.
func (k *decided) same(backend string, in decisionInputs) *plan.Decision {
	was, has := k.inputs[backend]
	if !has || !in.isWhole || was.exists != in.exists || !was.seen.Equal(in.seen) || !was.backend.Equal(in.backend) {
		return nil
	}
	return k.decisions[backend]
}

func (k *decided) keep(backend string, d *plan.Decision, in decisionInputs) {
	k.forget(backend)
	k.decisions[backend] = d
	if in.isWhole {
		k.inputs[backend] = in
	}
}

func (k *decided) forget(backend string) {
	delete(k.decisions, backend)
	delete(k.inputs, backend)
}

// settled returns a backend's decision if it needs no look at the time, or nil.
func (k *decided) settled(backend string, o plan.Observed) *plan.Decision {
	d := k.decisions[backend]
	_, guarded := o.Guards[backend]
	if d == nil || !d.IsSettled() || guarded || len(o.Flapping[backend])+len(o.Absent[backend])+len(o.Ended[backend]) > 0 {
		return nil
	}
	return d
}

func (a *Agent) desired() plan.Desired {
	d := plan.Desired{Marker: a.set.Renderer.Marker(), Services: a.set.Services, Rotation: a.set.Rotation, Requested: a.reloads.isRequested()}
	if a.known.observed.Marker == d.Marker {
		return d
	}
	// HAProxy runs the settings of before, and the operator's servers of before
	// until the reload.
	d.Services = slices.Clone(d.Services)
	for i := range d.Services {
		s := &d.Services[i]
		s.Operator = slices.Concat(s.Operator, a.ran[s.Backend].Operator)
	}
	return d
}

// noteRan remembers the services as HAProxy runs them.
func (a *Agent) noteRan() {
	if a.known.observed.Marker != a.set.Renderer.Marker() {
		return
	}
	var first *plan.Service
	if len(a.set.Services) > 0 {
		first = &a.set.Services[0]
	}
	if a.ran != nil && a.ranOf == first {
		return
	}
	a.ranOf = first
	a.ran = make(map[string]plan.Service, len(a.set.Services))
	for _, s := range a.set.Services {
		a.ran[s.Backend] = s
	}
}

// caps is what the HAProxy that will start can do: as the last one that ran,
// else as the program on disk.
func (a *Agent) caps(ctx context.Context) plan.Capabilities {
	if a.known.observed.Caps.Version == "" {
		a.known.observed.Caps = a.haproxy.Capabilities(ctx)
	}
	return a.known.observed.Caps
}

func (a *Agent) apply(ctx context.Context, steps []plan.Step) {
	errs := a.haproxy.Apply(ctx, steps)
	services := a.serviceNames()
	for i, err := range errs {
		s := steps[i]
		a.known.touch(s.Backend)
		a.moves.note(s, a.known.observed.PID)
		a.record.Step(services[s.Backend], a.counted(s), err)
		if errors.Is(err, plan.ErrRefused) {
			a.known.refused(s.Backend)
		}
		if errors.Is(err, plan.ErrStatic) {
			a.known.refusedWeight(s.Backend)
		}
		if errors.Is(err, plan.ErrBackendRefused) {
			a.known.refusedBackend(s, err)
			a.log.Warn("backend refused at runtime, reload needed", "backend", s.Backend, "change", s.Kind, "error", oneLine(err))
			continue
		}
		if err != nil {
			if ctx.Err() == nil {
				a.trouble.step(a.log, s, err)
			}
			continue
		}
		if s.Kind == plan.Add {
			a.known.adds[s.Backend] = true
		}
		a.known.noteStep(s)
		if a.trouble.taken(s) {
			a.logStep(s)
		}
	}
}

// counted is a step with the sessions that it ends, also where these are all of a server's.
func (a *Agent) counted(s plan.Step) plan.Step {
	if s.Kind != plan.Shutdown || s.Sessions > 0 {
		return s
	}
	for _, x := range a.known.observed.Backends[s.Backend].Servers {
		if x.Name == s.Server {
			s.Sessions = x.Sessions
		}
	}
	return s
}

// serviceNames returns Consul's name of each backend.
func (a *Agent) serviceNames() map[string]string {
	names := make(map[string]string, len(a.set.Services))
	for _, s := range a.set.Services {
		names[s.Backend] = s.Name
	}
	return names
}

// logStep writes the one line of a transition.
func (a *Agent) logStep(s plan.Step) {
	message, args := "server "+string(s.Kind), []any{"backend", s.Backend, "server", s.Server, "reason", s.Reason}
	if s.Instance != "" && s.Instance != s.Server {
		args = append(args, "instance", catalog.Printable(s.Instance))
	}
	switch s.Kind {
	case plan.Add, plan.SetAddr:
		args = append(args, "address", s.Addr)
	case plan.SetWeight:
		args = append(args, "weight", s.Weight)
	case plan.SetMaxConn:
		args = append(args, "maxconn", s.MaxConn)
	case plan.Shutdown:
		if s.Sessions > 0 {
			a.log.Info("sessions shut down", append(args, "sessions", s.Sessions)...)
			return
		}
		a.log.Warn("remaining sessions shut down", args...)
		return
	case plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
		message, args = backendMessages[s.Kind], []any{"backend", s.Backend, "reason", s.Reason}
	case plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent:
	}
	if s.Reason == plan.Drift {
		a.log.Warn("drift corrected", append(args, "change", s.Kind)...)
		return
	}
	if s.Kind == plan.DisableAgent {
		a.log.Debug("server "+string(s.Kind), args...) // one for each free slot after a reload
		return
	}
	a.log.Info(message, args...)
}

// backendMessages are the log lines of the steps of a whole backend.
var backendMessages = map[plan.Kind]string{
	plan.AddBackend: "backend added", plan.PublishBackend: "backend published",
	plan.UnpublishBackend: "backend unpublished", plan.DeleteBackend: "backend deleted",
}

// note logs HAProxy's coming and going, once each.
func (a *Agent) note(err error) {
	a.noteAway(err)
	switch {
	case err == nil && a.trouble.haproxy != "":
		a.log.Info("HAProxy connected", "pid", a.known.observed.PID, "version", a.known.observed.Caps.Version)
		a.trouble.haproxy = ""
	case err != nil && a.trouble.haproxy != err.Error():
		a.trouble.haproxy = err.Error()
		if errors.Is(err, plan.ErrNotRunning) {
			a.log.Warn("HAProxy not running, waiting", "error", oneLine(err))
		} else {
			a.log.Error("HAProxy state read failed", "error", oneLine(err))
		}
	}
}

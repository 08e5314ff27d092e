package sim

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// checkState judges what the sidecar tells: it claims nothing that HAProxy does
// not show, and no file that does not hold it.
func (w *world) checkState(s *sidecar, st *reconcile.State) {
	if !st.HAProxy.Running || !w.proxy.running || w.proxy.pid != s.saw.PID {
		return
	}
	for _, svc := range st.Services {
		for _, i := range svc.Instances {
			runs := w.proxy.find(svc.Backend, i.Server)
			if runs == nil || w.unseen(s, runs) || runs.pending.IsValid() || runs.landed >= s.sawAt[runs] && runs.landed > 0 {
				continue
			}
			takes := i.Phase == reconcile.PhaseUp || i.Phase == reconcile.PhaseStarting || i.Phase == reconcile.PhaseDown
			if i.Phase != reconcile.PhaseUnknown && (takes != (runs.Admin == plan.Ready) || runs.address() != i.Addr) {
				w.breach(readBack, "the state has %s/%s@%s %s, HAProxy has it at %s and %s", svc.Backend, i.Server, i.Addr, i.Phase, runs.Addr, runs.Admin)
			}
		}
	}
	if st.File.Current && !w.disk.foreign {
		w.checkCurrent(s)
	}
	w.checkFrontends(s, st)
}

// checkCurrent: a file that is said to be current has who takes traffic, and
// none that was taken out.
func (w *world) checkCurrent(s *sidecar) {
	c, _ := w.disk.on()
	for _, svc := range s.settings.Services {
		told := s.given.Service(svc.Name)
		if was, is := s.looked[svc.Backend], s.toldOf(svc.Backend); s.isLarge(svc.Backend) && !isSameAnswer(was, is) {
			continue // what it heard since waits for its turn
		}
		b, exists := s.saw.Backends[svc.Backend]
		i := slices.IndexFunc(c.backends, func(f plan.FileBackend) bool { return f.Backend == svc.Backend })
		if !exists || i < 0 || !told.Known || svc.Gone {
			continue
		}
		for _, srv := range b.Servers {
			if isShared(told, srv.Addr) {
				continue
			}
			o, has := owner(srv, told)
			want := has && takesTraffic(svc, o) && o.Addr == srv.Addr && o.Backup == srv.Backup
			on := slices.ContainsFunc(c.backends[i].Servers, func(f plan.FileServer) bool {
				return f.Name == srv.Name && f.Addr == srv.Addr && !f.Disabled && f.Weight > 0
			})
			served := on || slices.ContainsFunc(c.backends[i].Servers, func(f plan.FileServer) bool {
				return f.Addr == srv.Addr && f.Backup == srv.Backup && !f.Disabled && f.Weight > 0
			})
			switch {
			case available(srv) && want && !served && o.Weight > 0:
				w.breach(fileAgrees, "the file is said to be current, and has no %s/%s@%s", svc.Backend, srv.Name, srv.Addr)
			case srv.Admin != plan.Ready && !want && on:
				w.breach(fileAgrees, "the file is said to be current, and has %s/%s@%s, which is in %s", svc.Backend, srv.Name, srv.Addr, srv.Admin)
			}
		}
	}
}

// isSameAnswer reports whether two answers say the same, also by the weights of a rollout.
func isSameAnswer(x, y answer) bool {
	return x.Index == y.Index && x.epoch == y.epoch && slices.EqualFunc(x.Instances, y.Instances, func(i, j catalog.Instance) bool { return i.ID == j.ID && i.Weight == j.Weight })
}

// toldOf is what the sidecar was given of a backend's service.
func (s *sidecar) toldOf(backend string) answer {
	name := s.w.serviceOf(backend)
	return answer{s.given.Service(name), s.givenEpoch[name]}
}

// maxPasses is how many passes the loop makes in a second, at most: a few for each
// event, twenty for what it waits for, and one for each turn.
const maxPasses = 400

// checkPasses: the loop does not go round and round.
func (s *sidecar) checkPasses() {
	took := s.w.now() - s.passesFrom
	if s.passes++; took < time.Second {
		return
	}
	if s.passes > maxPasses*int(took/time.Second) {
		s.w.breach(noSpinning, "the loop has made %d passes in %s", s.passes, took)
	}
	s.passes, s.passesFrom = 0, s.w.now()
}

// maxRounds is how often the loop looks in one pass at most: with steps left it goes on in
// the next.
const maxRounds = 16

// checkOwed: the call that follows a look at HAProxy, of one that has something
// to do, must be the doing.
func (s *sidecar) checkOwed(call string) {
	if s.owes && !s.told && s.rounds < maxRounds {
		s.w.breach(noHesitation, "there are steps to take, and the next call is %s", call)
	}
	s.owes = false
}

// mustAct reports whether what was just read asks for steps that nothing holds
// back: none has failed lately, so none is being waited with. The other backends
// were read before, and acted on then.
func (s *sidecar) mustAct(backends []string) bool {
	if s.w.now()-s.failed < calm || s.told || len(s.w.set.refuses)+len(s.w.set.damping) > 0 {
		return false
	}
	for _, svc := range s.agent.State().Services {
		if len(svc.Guard.Held) > 0 {
			return false // as is remembered, and is not to be seen here
		}
	}
	for _, svc := range s.settings.Services {
		if hasAgents(svc) {
			return false // who has kept a server out is remembered, and is not to be seen here
		}
		if _, read := s.saw.Backends[svc.Backend]; !read {
			return false
		}
	}
	if s.inPass && s.hiddenAt >= s.passed {
		return false // the loop takes these settings after its pass
	}
	d := plan.Desired{Marker: s.settings.Renderer.Marker(), Services: s.settings.Services, Rotation: s.settings.Rotation}
	steps := slices.DeleteFunc(plan.Compute(d, s.saw, s.given).Steps, func(st plan.Step) bool { return !slices.Contains(backends, st.Backend) })
	if s.beside > 0 || s.reloadEnded >= s.passed || s.agent.State().Reloads.Pending != "" {
		// While a new worker may begin to serve, what is for the one before it waits.
		steps = slices.DeleteFunc(steps, plan.Step.IsForWorker)
	}
	// The end of a backend waits until no route leads to it.
	steps = slices.DeleteFunc(steps, func(st plan.Step) bool { return st.Kind == plan.UnpublishBackend && len(s.w.set.frontends) > 0 })
	// A plan for a server that is about to have another address would be wrong by then.
	steps = slices.DeleteFunc(steps, func(st plan.Step) bool { return s.w.proxy.moves(st.Backend) })
	s.noteLarge()
	// What is left of a large service's steps waits for its next turn.
	return slices.ContainsFunc(steps, func(st plan.Step) bool { return !s.large[st.Backend] })
}

// checkTurns: a service of which something was heard has had its turn soon after,
// whatever the others do.
func (s *sidecar) checkTurns() {
	for _, svc := range s.settings.Services {
		due, heard := s.turnDue[svc.Name]
		if !heard || s.w.now() <= due+s.w.set.latency*100 || s.calling > 0 {
			continue
		}
		if !s.told && !s.dead && s.w.proxy.running && s.w.now()-max(s.failed, s.slowed) > calm {
			s.w.breach(noHesitation, "Consul's change of %s was heard, and it had no turn since", svc.Name)
		}
		delete(s.turnDue, svc.Name)
	}
}

// checkPrompt: who has heard of a change has looked at HAProxy soon after, unless
// it was told to end meanwhile.
func (s *sidecar) checkPrompt() {
	if s.told || s.dead {
		return
	}
	if s.looks > 0 && s.w.now() > s.looks+s.w.set.latency*20 && s.calling == 0 {
		if s.w.now()-s.failed > calm {
			s.w.breach(noHesitation, "Consul's change was heard, and HAProxy was not looked at since")
		}
		s.looks = 0
	}
}

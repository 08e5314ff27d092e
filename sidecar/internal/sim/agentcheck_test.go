package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// The answers of an agent check, beside an instance that has one.
const (
	saysNothing = ""
	saysFull    = "ready 100%"
	saysReady   = "ready"
	saysHalf    = "50%"
	saysDrain   = "drain"
	saysMaint   = "maint"
	saysLow     = "ready 50%" // of a weight of 1 that is none
)

// agentInterval is from one question of HAProxy's to the next.
const agentInterval = time.Second

func hasWord(options, word string) bool { return slices.Contains(strings.Fields(options), word) }

// hasAgents reports whether a service's servers have agent checks.
func hasAgents(svc plan.Service) bool { return hasWord(svc.Options, "agent-check") }

// askAgents is HAProxy asking all agents, again and again.
func (w *world) askAgents() {
	if !slices.ContainsFunc(w.set.services, hasAgents) {
		return
	}
	if p := w.proxy; p.running {
		for _, name := range p.worker.names {
			for _, s := range p.worker.backends[name].servers {
				if s.Agent == plan.AgentOn {
					p.answer(s)
				}
			}
		}
	}
	w.after(agentInterval, w.askAgents)
}

// answer does what the agent of a server says: an administrative state wins over
// what a command has set, and a percentage is of the configured weight.
func (p *proxy) answer(s *server) {
	n := p.w.where[s.Addr]
	if n == nil || !n.listening || n.service != s.service || s.worker != p.worker || s.AgentPort != portOf(p.w.service(s.service), n.agentPort) {
		return // another service's container has no agent, or another
	}
	was := s.Server
	switch n.says {
	case saysFull:
		s.Admin, s.Weight = plan.Ready, s.ConfigWeight
	case saysReady:
		s.Admin = plan.Ready
	case saysHalf:
		s.Weight = s.ConfigWeight / 2
	case saysLow:
		s.Admin, s.Weight = plan.Ready, s.ConfigWeight/2
	case saysDrain:
		s.Admin = plan.Drain
	case saysMaint:
		s.Admin, s.Up = plan.Maint, false
	}
	if was.Admin == plan.Maint && s.Admin != plan.Maint {
		s.Up = true // until its check says otherwise
	}
	if s.Admin != was.Admin {
		s.changed, s.turning = p.w.now(), 0
	}
	if s.fileAgent && was.Admin == plan.Maint && s.Admin != plan.Maint {
		// The file has it disabled, and HAProxy asks its agent all the same until
		// the sidecar has seen the new worker.
		s.foreign, n.orderly = p.w.now(), false
	}
	if s.Admin != was.Admin || s.Weight != was.Weight {
		s.answered = p.w.now()
		p.w.disturb()
		p.w.note("the agent of %s@%s says %q: %s w%d", s.Name, s.Addr, n.says, s.Admin, s.Weight)
	}
}

// portOf is where the agents of a service's servers ask that have a port of their
// own, or none.
func portOf(svc plan.Service, own int) int {
	if svc.AgentFromMeta && own != 0 {
		return own
	}
	return plan.NoAgentPort
}

// enableAgent is the commands of it.
func (s *server) enableAgent(st plan.Step) error {
	if s.Agent == plan.NoAgent {
		return errNoAgent
	}
	if st.AgentPort != 0 {
		s.AgentPort = st.AgentPort
	}
	s.Agent, s.Weight, s.fileAgent = plan.AgentOn, s.ConfigWeight, false
	s.Up = !st.Prove || !s.checked // whatever its check last said
	return nil
}

// disableAgent: an answer may be under way, and counts.
func (p *proxy) disableAgent(s *server) {
	if s.Agent != plan.AgentOn {
		return
	}
	s.Agent = plan.AgentOff
	if p.w.callRNG.IntN(4) > 0 {
		return
	}
	s.Agent = plan.AgentBusy
	p.w.after(time.Duration(p.w.callRNG.Int64N(int64(100*time.Millisecond))), func() {
		if s.Agent == plan.AgentBusy {
			p.answer(s)
			s.Agent = plan.AgentOff
			p.w.disturb()
		}
	})
}

// agentEvent lets an agent say something else for a while.
func (w *world) agentEvent(n *node) {
	n.says = pick(w.eventRNG, saysNothing, saysReady, saysHalf, saysDrain, saysDrain, saysMaint)
	w.note("the agent of %s says %q from here on", n, n.says)
	w.after(w.upTo(20*time.Second), func() { n.says = saysFull })
}

// keepLow lets the agent of one instance go on giving half the weight, which is
// none where the weight is 1: who leaves must not wait for it for ever.
func (w *world) keepLow() {
	if !slices.ContainsFunc(w.set.services, hasAgents) || w.maybe(0.7) {
		return
	}
	for _, n := range w.nodes {
		if n.alive && !n.leaving && hasAgents(w.service(n.service)) {
			n.says = saysLow
			w.note("the agent of %s says %q to the end", n, n.says)
			return
		}
	}
}

// keepsLow reports whether it is the agent of a server that gives it half of the
// weight that Consul has.
func (w *world) keepsLow(s *server) bool {
	n := w.where[s.Addr]
	return s.Agent == plan.AgentOn && n != nil && n.says == saysLow && s.Weight == s.ConfigWeight/2
}

// serving counts the instances that get requests. To the others their agent gives
// a weight of 0, and min_servers keeps others in their place.
func (w *world) serving(svc plan.Service, in []*catalog.Instance) (n int) {
	for _, i := range in {
		if i.ByShare && i.Weight == 0 {
			continue // its version has no share
		}
		if at := w.where[i.Addr]; !hasAgents(svc) || at == nil || at.says != saysLow || i.Weight > 1 {
			n++
		}
	}
	return n
}

// agentDiffers says what is wrong with the agent of a server, or "".
func agentDiffers(svc plan.Service, s *server, o catalog.Instance, has bool) string {
	switch {
	case s.Agent == plan.NoAgent:
	case s.Admin == plan.Ready && s.Agent != plan.AgentOn:
		return "the agent of " + s.Name + " is off"
	case s.Admin != plan.Ready && s.Agent != plan.AgentOff:
		return "the agent of " + s.Name + ", which is in " + s.Admin.String() + ", is not off"
	case s.Admin == plan.Ready && has && takesTraffic(svc, o) && o.Weight > 0 && s.AgentPort != portOf(svc, o.AgentPort):
		return "the agent of " + s.Name + " is asked at another port"
	}
	return ""
}

// needsWeight reports whether an instance's weight cannot be set at runtime.
func needsWeight(svc plan.Service, x plan.Server, told catalog.Service) bool {
	if !svc.Static && x.Agent == plan.NoAgent {
		return false
	}
	o, has := owner(x, told)
	return has && takesTraffic(svc, o) && o.Weight > 0 && o.Weight != x.ConfigWeight
}

// absent notes since when the instances that the sidecar was told of have no
// ready server at their address: in the end nothing waits for them.
func (s *sidecar) noteAbsent(backend string) {
	svc := s.w.service(s.w.serviceOf(backend))
	told := s.given.Service(svc.Name)
	slots := svc.ForceSlots || !s.saw.Caps.Dynamic || s.refuses[backend] == s.saw.Marker && s.saw.Marker != (plan.Marker{})
	next := map[string]time.Duration{}
	for n := range told.Instances {
		i := &told.Instances[n]
		if !takesTraffic(svc, *i) {
			continue
		}
		has, ready := !slots, false
		for _, x := range s.saw.Backends[backend].Servers {
			switch {
			case x.Backup != i.Backup:
				has = has || x.Name == i.Server // it waits for the end of that one
			case x.Addr == i.Addr && (isSlot(x.Name) || x.Name == i.Server):
				has, ready = true, ready || x.Admin == plan.Ready
			case x.IsFreeSlot():
				has = true // that it can have
			}
		}
		if ready || !has { // else it waits for a slot, and the others with it
			continue
		}
		next[i.Server] = s.w.now()
		if since, known := s.absent[backend][i.Server]; known {
			next[i.Server] = since
		}
	}
	s.absent[backend] = next
}

// isOverdue reports whether an instance may have been absent for too long to be
// waited for.
func (s *sidecar) isOverdue(svc plan.Service, i *catalog.Instance) bool {
	since, absent := s.absent[svc.Backend][i.Server]
	return absent && s.w.now()-since >= max(svc.ReplacementTimeout, time.Second)-time.Second
}

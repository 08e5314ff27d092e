package plan

import (
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// keep brings a server whose instance should take traffic to where it does. A
// server at another address is left to move.
func (b *backendPlan) keep(i int, inst *catalog.Instance) {
	s := &b.servers[i]
	if s.Addr != inst.Addr {
		return
	}
	b.tune(s, inst)
	if b.agentDecides(s) {
		if inst.Weight > 0 && b.asksElsewhere(s, inst) {
			b.additions = append(b.additions, b.step(EnableAgent, Moved, s, inst))
		}
		b.wait(s, inst, ForAgent)
		return
	}
	switch s.Admin {
	case Ready:
		b.check(s, inst)
		switch {
		case s.Agent == AgentOff && inst.Weight > 0:
			b.additions = append(b.additions, b.step(EnableAgent, Drift, s, inst))
		case s.Agent == AgentOn && inst.Weight > 0 && b.asksElsewhere(s, inst):
			b.additions = append(b.additions, b.step(EnableAgent, Moved, s, inst))
		case s.Agent == AgentOn && s.Weight == 0 && inst.Weight > 0:
			b.wait(s, inst, ForAgent)
		}
		if !s.Up {
			b.wait(s, inst, ForCheck)
		}
	case Drain:
		// Its checks have gone on, so what they last said still holds.
		b.additions = append(b.additions, b.step(SetReady, b.readyReason(s), s, inst))
	case Maint:
		st := b.step(SetReady, b.readyReason(s), s, inst)
		st.Prove = b.Checked && !s.NoCheck
		b.additions = append(b.additions, st)
	}
}

// check has HAProxy check a server that takes traffic, should an operator have
// switched that off: no check of Consul's decides on one that is held. A server that
// came without a check, in a file before ours, gets it by a reload only.
func (b *backendPlan) check(s *Server, inst *catalog.Instance) {
	if b.Checked && !s.Checked && !s.NoCheck {
		b.additions = append(b.additions, b.step(EnableHealth, Drift, s, inst))
	}
}

// tune sets what can be set on a server in any state.
func (b *backendPlan) tune(s *Server, inst *catalog.Instance) {
	b.weigh(s, inst)
	if limit := b.limit(inst); s.MaxConn != limit {
		st := b.step(SetMaxConn, Reweighted, s, inst)
		if b.drifted(s, func(l FileServer) bool { return l.MaxConn == limit }) {
			st.Reason = Drift
		}
		st.MaxConn = limit
		b.additions = append(b.additions, st)
	}
}

func (b *backendPlan) readyReason(s *Server) Reason {
	switch {
	case b.drifted(s, func(l FileServer) bool { return !l.Disabled && l.Weight > 0 }):
		return Drift
	case isSlot(s):
		return Registered
	}
	return Healthy
}

// move brings servers whose instance has another address now over to it. A
// server out of traffic is given its address; one in traffic is taken out
// first, so that it comes back only when its check has passed at the new
// place, but never enough at once that less than half of those that will be
// stays. The last one waits for those that are coming; where none is, it is
// moved as it stands. One that must be replaced goes by the same measure. One of
// weight 0 takes no traffic where it comes to: it is a loss that MinServers bounds.
func (b *backendPlan) move() {
	coming := b.coming()
	half := (b.available + coming + 1) / 2
	canSpare := func(inst *catalog.Instance) bool {
		stay := max(1, half)
		if inst.Weight == 0 {
			stay = max(stay, b.MinServers)
		}
		return b.available-1 >= stay
	}
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if b.mustReplace(s) {
			if canSpare(b.replaced[s.Name]) {
				b.available--
				coming++
				b.removals = append(b.removals, b.step(SetDrain, Moved, s, b.replaced[s.Name]))
			} else {
				b.wait(s, b.replaced[s.Name], ForReplacement)
				b.tune(s, b.replaced[s.Name]) // it may stay for long
				b.check(s, b.replaced[s.Name])
			}
			continue
		}
		if inst == nil || s.Addr == inst.Addr || b.role(inst) != in || b.isHoused(s) {
			continue
		}
		reason := Moved
		if b.drifted(s, func(l FileServer) bool { return l.Addr == inst.Addr }) {
			reason = Drift
		}
		switch {
		case s.Admin == Maint, isAvailable(s) && b.available == 1 && coming == 0:
			st := b.step(SetAddr, reason, s, inst)
			st.Addr = inst.Addr
			b.additions = append(b.additions, st)
		case !isAvailable(s), b.roleLost[s.Name]:
			b.removals = append(b.removals, b.step(SetMaint, reason, s, inst))
		case canSpare(inst):
			b.available--
			coming++
			b.removals = append(b.removals, b.step(SetMaint, reason, s, inst))
		default:
			b.wait(s, inst, ForReplacement)
		}
	}
}

// coming counts the servers that get nothing now and may soon.
func (b *backendPlan) coming() int {
	n := len(b.added) - b.overdueAdds
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst == nil || b.role(inst) != in || inst.Weight == 0 || isAvailable(s) || b.isOverdue(inst) || b.agentDecides(s) {
			continue
		}
		if s.Admin != Ready || s.Addr != inst.Addr || b.isComing(s) {
			n++
		}
	}
	return n
}

// mustReplace reports whether a server in traffic has to go, because its
// instance needs its name for another one. One that has lost its role does not wait.
func (b *backendPlan) mustReplace(s *Server) bool {
	return b.replaced[s.Name] != nil && isAvailable(s) && !b.roleLost[s.Name]
}

// isHoused reports whether a step of this plan gives the slot its address.
func (b *backendPlan) isHoused(s *Server) bool {
	for n := range b.additions {
		if st := &b.additions[n]; st.Kind == SetAddr && st.Server == s.Name {
			return true
		}
	}
	return false
}

// isAvailable reports whether HAProxy sends new requests to the server, and
// something may answer them: a free slot that was made ready is no loss.
func isAvailable(s *Server) bool {
	return s.Up && s.Admin == Ready && s.Weight > 0 && s.Addr != freeAddr
}

// countAvailable leaves out those that have lost their role: they go whatever
// becomes of the others.
func (b *backendPlan) countAvailable() (n int) {
	for i := range b.servers {
		if s := &b.servers[i]; isAvailable(s) && !b.roleLost[s.Name] {
			n++
		}
	}
	return n
}

package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// candidate is a server in traffic that should not be.
type candidate struct {
	server   *Server
	instance *catalog.Instance // nil if Consul does not list it
	reason   Reason
	to       Kind // SetDrain, SetMaint, or SetWeight for a weight of 0
	strayed  bool // its instance leaves, and an operator made it ready, or pointed the server there
	isMeant  bool // a rollout gives its version no share
}

// announced reports whether the instance was meant to go: then nothing
// but a replacement that is coming holds it back.
func (c candidate) announced() bool {
	return c.reason == Leaving || c.reason == InMaintenance || c.reason == ByOperator || c.strayed || c.isMeant
}

// isLoss reports whether the guard judges the candidate: nothing is known of why it
// goes.
func (c candidate) isLoss() bool { return !c.announced() && c.reason != RoleLost }

// isGood reports whether the server still does what it was meant to, so that
// it may stay until its replacement is up. An unhealthy one does not, nor does
// one that an operator has pointed elsewhere.
func (c candidate) isGood() bool { return c.reason != Unhealthy && c.reason != Drift }

// retire takes servers out of traffic in order: drain, no session left or the
// time over, maint, delete. Each call takes the steps that are due by
// HAProxy's own state.
func (b *backendPlan) retire() {
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst != nil && b.role(inst) == in || b.mustReplace(s) {
			continue
		}
		if own := b.onlyFor(s, inst); own != nil {
			b.wait(s, own, ForReplacement)
			b.check(s, own)
			continue
		}
		c := b.candidate(s, inst)
		b.silence(c)
		switch s.Admin {
		case Ready:
			b.candidates = append(b.candidates, c)
		case Drain:
			b.afterDrain(c)
		case Maint:
			b.afterMaint(c)
		}
	}
	b.takeOut()
}

func (b *backendPlan) candidate(s *Server, inst *catalog.Instance) candidate {
	c := candidate{server: s, instance: inst, reason: Deregistered, to: SetDrain}
	switch {
	case b.roleLost[s.Name]:
		c.reason, c.to = RoleLost, SetMaint // a client that sticks to a drained one still comes
	case b.replaced[s.Name] != nil:
		c.reason = Moved
	case inst == nil:
		switch {
		case s.Admin == Ready && b.drifted(s, func(l FileServer) bool { return l.Addr != s.Addr || l.Disabled }):
			c.reason = Drift
		case b.isReplaced(s):
			c.reason = Moved
		}
	case !inst.Leaving.IsZero() && s.Admin == Ready && b.drifted(s, func(l FileServer) bool { return l.Addr != s.Addr || l.Disabled }):
		// The instance may have been called drained.
		c.reason, c.strayed = Drift, true
	case !inst.Leaving.IsZero():
		c.reason = Leaving
	case inst.Health == catalog.Maintenance:
		c.reason = InMaintenance
	case b.drained[inst]:
		c.reason = ByOperator
	default:
		c.reason, c.to = Unhealthy, SetMaint
		if isSlot(s) && b.drainsAt(s.Addr) {
			c.to = SetDrain
		}
	}
	if b.MoveSticky && c.to == SetDrain {
		c.to = SetMaint
	}
	return c
}

// drainsAt reports whether an instance at the address was meant to go. A slot is
// found by its address, so nothing tells whose sessions are on which of the
// slots there: all of them drain.
func (b *backendPlan) drainsAt(addr netip.AddrPort) bool { return b.placedNow().drains[addr] }

// placed has the addresses of servers that have an instance: where one drains, and
// where one does not leave.
type placed struct{ drains, stays map[netip.AddrPort]bool }

func (b *backendPlan) placedNow() *placed {
	if b.placed == nil {
		b.placed = &placed{drains: map[netip.AddrPort]bool{}, stays: map[netip.AddrPort]bool{}}
		for i, inst := range b.bound {
			if inst == nil {
				continue
			}
			addr := b.servers[i].Addr
			if b.role(inst) == draining {
				b.placed.drains[addr] = true
			}
			if inst.Leaving.IsZero() {
				b.placed.stays[addr] = true
			}
		}
	}
	return b.placed
}

// afterDrain ends a drain that is over. One for Consul's maintenance mode, or by an
// operator, has no end: sticky clients may stay as long as the operator lets them.
func (b *backendPlan) afterDrain(c candidate) {
	s := c.server
	switch {
	case c.reason == RoleLost, b.MoveSticky && c.reason != Unhealthy:
		b.remove(SetMaint, c.reason, c)
	case c.reason == InMaintenance, c.reason == ByOperator:
	case c.reason == Unhealthy && c.to == SetMaint:
		b.remove(SetMaint, Unhealthy, c)
	case s.Sessions == 0:
		b.remove(SetMaint, Drained, c)
	case s.SinceChange >= b.DrainTimeout:
		b.remove(SetMaint, DrainExpired, c)
	default:
		b.wait(s, c.instance, ForSessions)
	}
}

// afterMaint ends what has outlasted its drain, and deletes a server that
// Consul no longer lists, where servers can be deleted. Where slots are needed,
// a slot is free now.
func (b *backendPlan) afterMaint(c candidate) {
	s := c.server
	switch {
	case c.instance != nil && c.reason != Leaving:
		// It may come back, and its sessions are no hindrance.
	case s.Sessions > 0 && !s.Uncounted && b.shutdownDue(c) && !b.staysAt(s.Addr):
		b.shutdown(c)
	case s.Sessions > 0:
		b.wait(s, c.instance, ForSessions)
	case c.instance != nil:
	case !b.deletes, isSlot(s) && (b.slots || !b.adds):
	case isSlot(s):
		b.remove(Delete, Unused, c)
	case c.reason == Moved, c.reason == RoleLost:
		b.remove(Delete, c.reason, c)
	default:
		b.remove(Delete, Deregistered, c)
	}
}

// shutdown ends the sessions on a server in maint: all of them, or where that is spread
// over a time, those of this second.
func (b *backendPlan) shutdown(c candidate) {
	s := c.server
	step := b.step(Shutdown, DrainExpired, s, c.instance)
	if c.reason == RoleLost {
		step.Reason = RoleLost
	}
	step.Addr = s.Addr
	left := b.killAfter(c) + b.SessionKillSpread - s.SinceChange
	if seconds := int(left / time.Second); seconds > 1 && (c.reason != RoleLost || !b.CloseRole) {
		if at, known := b.ended[s.Name]; known && at == s.SinceChange {
			b.wait(s, c.instance, ForSessions)
			return
		}
		step.Sessions = (s.Sessions + seconds - 1) / seconds
	}
	b.removals = append(b.removals, step)
}

// shutdownDue reports whether the sessions on a server in maint have had their time.
func (b *backendPlan) shutdownDue(c candidate) bool {
	return c.reason == RoleLost && b.CloseRole || b.SessionKillAfter > 0 && c.server.SinceChange >= b.killAfter(c)
}

// killAfter is how long a server is in maint until its sessions begin to end. One that was
// not in drain before has both times.
func (b *backendPlan) killAfter(c candidate) time.Duration {
	if c.reason == RoleLost || b.MoveSticky {
		return b.DrainTimeout + b.SessionKillAfter
	}
	return b.SessionKillAfter
}

// staysAt reports whether an instance that does not leave is at the address by
// way of another server. Only the address tells sessions in old workers
// apart, and those of one that stays must not end.
func (b *backendPlan) staysAt(addr netip.AddrPort) bool { return b.placedNow().stays[addr] }

func (b *backendPlan) remove(kind Kind, reason Reason, c candidate) {
	b.removals = append(b.removals, b.step(kind, reason, c.server, c.instance))
}

// takeOut takes the candidates out of traffic as far as the guard and the
// replacements that are coming allow. One that gets no requests anyway is
// never held.
func (b *backendPlan) takeOut() {
	candidates := b.candidates
	slices.SortStableFunc(candidates, func(x, y candidate) int { return cmp.Compare(x.order(), y.order()) })
	announced := 0
	for _, c := range candidates {
		if c.announced() && isAvailable(c.server) {
			announced++
		}
	}
	guard, spare := b.judge(candidates), b.spare()
	serving := b.countServing()
	for _, c := range candidates {
		switch {
		case !isAvailable(c.server), c.reason == RoleLost: // neither counts as available
		// Those that were announced go whatever becomes of this one, as far as
		// they can be spared, so they are none that would stay.
		case guard.holds(b, c, b.available-1-min(announced, max(0, spare-1))):
			b.stay(c, ForGuard)
			continue
		case c.isGood() && spare <= 0:
			b.stay(c, ForReplacement)
			continue
		case c.isMeant && serving == 0, (c.reason == ByOperator || c.isMeant) && b.available <= max(1, b.MinServers):
			b.stay(c, ForReplacement)
			continue
		default:
			b.available--
			spare--
			if c.announced() {
				announced--
			}
		}
		b.remove(c.to, c.reason, c)
	}
}

// countServing counts the servers in traffic that are to stay there as they are.
func (b *backendPlan) countServing() (n int) {
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst != nil && b.role(inst) == in && inst.Weight > 0 && isAvailable(s) && s.Addr == inst.Addr {
			n++
		}
	}
	return n
}

// stay keeps a candidate for now. One that goes for its weight only is an
// instance's, and was seen to before.
func (b *backendPlan) stay(c candidate, because WaitReason) {
	b.wait(c.server, c.instance, because)
	if c.to != SetWeight {
		b.check(c.server, c.instance)
	}
}

// order puts those that HAProxy can do without first: those that get nothing,
// then the unhealthy, then those that leave, in the order in which they began.
func (c candidate) order() int64 {
	switch {
	case !isAvailable(c.server):
		return -3
	case c.reason == Unhealthy, c.strayed:
		return -2
	case c.reason == Leaving:
		return max(0, c.instance.Leaving.Unix())
	case c.reason == InMaintenance:
		return -1
	}
	return int64(^uint64(0) >> 1)
}

// spare is how many servers in traffic can be spared. While a replacement is
// coming, as many stay as there will be in the end; when none is, all may go.
func (b *backendPlan) spare() int {
	wanted, coming := 0, 0
	for n := range b.want.Instances {
		if inst := &b.want.Instances[n]; b.role(inst) == in && inst.Weight > 0 && !b.isOverdue(inst) {
			wanted++
		}
	}
	up := 0
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst == nil || b.role(inst) != in || inst.Weight == 0 {
			continue
		}
		switch {
		case isAvailable(s) && s.Addr == inst.Addr:
			up++
			if b.isOverdue(inst) {
				wanted++ // it has come after all
			}
		case b.isOverdue(inst):
		case b.agentDecides(s):
			wanted--
		case s.Addr != inst.Addr: // it will be moved
		case s.Admin == Ready && !b.isComing(s):
			wanted-- // it has had its time, and no step waits for it
		}
	}
	if coming = wanted - up; coming <= 0 {
		return len(b.servers)
	}
	return b.available - wanted
}

// absences lists the instances that should take traffic and have no ready
// server at their address, though steps could give them one. One that waits for
// a slot waits for a reload, and the others wait with it.
func (b *backendPlan) absences() (out []Absence) {
	if !b.exists || !b.want.Known {
		return nil
	}
	present := b.presentNow()
	waits := make(map[*catalog.Instance]bool, len(b.unassigned)+len(b.assignedSoon))
	for _, inst := range slices.Concat(b.unassigned, b.assignedSoon) {
		waits[inst] = true
	}
	for n := range b.want.Instances {
		if inst := &b.want.Instances[n]; b.role(inst) == in && inst.Weight > 0 && !present[inst] && !waits[inst] {
			out = append(out, Absence{Backend: b.Backend, Server: inst.Server})
		}
	}
	return out
}

// presentNow tells which instances have a ready server at their address.
func (b *backendPlan) presentNow() map[*catalog.Instance]bool {
	if b.present == nil {
		b.present = make(map[*catalog.Instance]bool, len(b.bound))
		for i, inst := range b.bound {
			if inst == nil {
				continue
			}
			s := &b.servers[i]
			b.present[inst] = s.Addr == inst.Addr && (s.Admin == Ready || b.agentDecides(s))
		}
	}
	return b.present
}

// isOverdue reports whether an instance has had no ready server for too long,
// and nothing waits for it any more: a step keeps failing. The memory is one
// pass old: an instance whose step has gone through since is not overdue, and neither is
// one that has begun to wait for a slot.
func (b *backendPlan) isOverdue(inst *catalog.Instance) bool {
	return b.absent[inst.Server] >= max(b.ReplacementTimeout, time.Second) && !b.presentNow()[inst] && !slices.Contains(b.unassigned, inst) && !slices.Contains(b.assignedSoon, inst)
}

// isComing reports whether a ready server that gets nothing may still come up
// soon. One whose check has failed for long is not a replacement. One that is up
// lacks only its weight, which a step of this plan sets, unless its agent check
// does.
func (b *backendPlan) isComing(s *Server) bool {
	return s.Up && s.Agent != AgentOn || s.SinceChange < max(b.ReplacementTimeout, time.Second)
}

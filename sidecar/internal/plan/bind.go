package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// isSlot reports whether a server is one that the file keeps spare.
func isSlot(s *Server) bool { return strings.HasPrefix(s.Name, catalog.SlotPrefix) }

// IsFreeSlot reports whether the server is a slot that no instance uses: in maint,
// without sessions, and with an agent check that makes it ready no more. An
// instance may still be bound to it by its address.
func (s Server) IsFreeSlot() bool {
	return isSlot(&s) && s.Admin == Maint && s.Sessions == 0 && !s.Agent.Decides()
}

// bind finds the server of each instance and gives the instances that have
// none. A server is an instance's by its name; a slot, whose name is no one's,
// by its address. Of the two the one that is where the instance is: one that has
// moved and has a slot there already stays in it. So does one whose ID now stands
// on more nodes or on fewer, and has another name for that: see formerly. Nothing
// but HAProxy's own state is asked, so a sidecar that starts again binds as the one before it did.
func (b *backendPlan) bind() (unassigned []*catalog.Instance) {
	byName := b.indexByName()
	slotsAt := map[addrKey][]int{}
	for i := range b.servers {
		s := &b.servers[i]
		if isSlot(s) {
			k := addrKey{s.Addr, s.Backup}
			slotsAt[k] = append(slotsAt[k], i)
		}
	}
	var instances map[addrKey]int
	for k, at := range slotsAt {
		if len(at) == 1 {
			continue
		}
		if instances == nil {
			instances = b.instancesAt()
		}
		surplus := len(at) > instances[k]
		slices.SortStableFunc(at, func(x, y int) int {
			return cmp.Compare(rank(&b.servers[x], surplus), rank(&b.servers[y], surplus))
		})
	}
	for _, inst := range b.byRole() {
		k := addrKey{inst.Addr, inst.Backup}
		i, named := byName[inst.Server]
		named = named && b.canKeep(&b.servers[i], inst)
		switch at := slotsAt[k]; {
		case named && b.servers[i].Addr == inst.Addr:
			b.bound[i] = inst
		case len(at) > 0:
			b.bound[at[0]], slotsAt[k] = inst, at[1:]
		case b.bindFormer(byName, inst):
		case named:
			b.bound[i] = inst
		default:
			unassigned = append(unassigned, inst)
		}
	}
	for i := range b.servers {
		s := &b.servers[i]
		switch {
		case b.bound[i] != nil:
		case s.IsFreeSlot():
			b.free = append(b.free, i)
		case !isSlot(s) || s.Admin != Maint || s.Sessions > 0 && !s.Uncounted:
		case s.Agent == AgentOn:
			b.freeBySteps++
		default:
			b.freeSoon++
		}
	}
	return unassigned
}

// bindFormer binds an instance to the server at its address that has the name
// which it had, while its ID stood on another number of nodes. It reports whether
// there is one. A rename is no loss: nothing has changed for who is served.
func (b *backendPlan) bindFormer(byName map[string]int, inst *catalog.Instance) bool {
	i, found := byName[formerly(inst)]
	if !found || b.bound[i] != nil || b.servers[i].Addr != inst.Addr || !b.canKeep(&b.servers[i], inst) {
		return false
	}
	b.bound[i] = inst
	return true
}

// formerly is the other of the two names that an instance's server can have.
func formerly(inst *catalog.Instance) string {
	if plain := catalog.ServerName(inst.ID, ""); inst.Server != plain {
		return plain
	}
	return catalog.ServerName(inst.ID, inst.Node)
}

// byRole sorts the instances so that of two at one address the one that should
// take traffic gets the slot that does.
func (b *backendPlan) byRole() []*catalog.Instance {
	out := make([]*catalog.Instance, len(b.want.Instances))
	for n := range b.want.Instances {
		out[n] = &b.want.Instances[n]
	}
	slices.SortStableFunc(out, func(x, y *catalog.Instance) int { return cmp.Compare(b.role(x), b.role(y)) })
	return out
}

type addrKey struct {
	addr   netip.AddrPort
	backup bool
}

// instancesAt counts the instances at each address.
func (b *backendPlan) instancesAt() map[addrKey]int {
	n := make(map[addrKey]int, len(b.want.Instances))
	for i := range b.want.Instances {
		inst := &b.want.Instances[i]
		n[addrKey{inst.Addr, inst.Backup}]++
	}
	return n
}

// rank is which of the slots at one address is bound first: one in use before one that
// only remembers the address. Where there are more than instances, so that some go, one
// that gets requests comes before one that its check or its agent keeps from them.
func rank(s *Server, surplus bool) int {
	switch {
	case s.Admin == Maint:
		return 2
	case surplus && !isAvailable(s):
		return 1
	}
	return 0
}

// canKeep reports whether a server of the instance's own name can go on to be
// its server. Where connections stay with an old address (HAProxy before 3.0:
// docs/haproxy-facts.md, fact 3), one in use can't be moved, and the instance takes a slot.
func (b *backendPlan) canKeep(s *Server, inst *catalog.Instance) bool {
	if s.Backup != inst.Backup {
		return false
	}
	return s.Addr == inst.Addr || !b.slots || s.Admin == Maint && s.Sessions == 0
}

// assign finds a place for an instance that has none.
func (b *backendPlan) assign(inst *catalog.Instance) {
	if !b.slots {
		i, exists := b.indexByName()[inst.Server]
		switch {
		case slices.Contains(b.Operator, inst.Server):
			b.add(inst, slotName(b.nextSlot(b.names()))) // the operator's own server has the name
		case !exists:
			b.add(inst, inst.Server)
		default:
			// Its name is taken by a server that can't become its own: none
			// turns into a backup, or back, at runtime.
			if b.replaced == nil {
				b.replaced = map[string]*catalog.Instance{}
			}
			b.replaced[inst.Server] = inst
			if b.available == 1 && isAvailable(&b.servers[i]) {
				b.add(inst, slotName(b.nextSlot(b.names()))) // no other could serve until it has its name
			}
		}
		return
	}
	for n, i := range b.free {
		s := &b.servers[i]
		if s.Backup != inst.Backup {
			continue
		}
		b.free = slices.Delete(b.free, n, n+1)
		st := b.step(SetAddr, Registered, s, inst)
		st.Addr = inst.Addr
		b.additions = append(b.additions, st)
		b.bound[i] = inst
		return
	}
	b.wait(nil, inst, ForSlot)
	switch {
	case b.freeSoon > 0: // the last answer of its agent is awaited, or its sessions are being counted
		b.freeSoon--
		b.assignedSoon = append(b.assignedSoon, inst)
		return
	case b.freeBySteps > 0:
		b.freeBySteps--
		return
	}
	b.unassigned = append(b.unassigned, inst)
}

// names is the servers that there are or will be, as far as their names go.
func (b *backendPlan) names() []FileServer {
	out := slices.Clone(b.added)
	for i := range b.servers {
		out = append(out, FileServer{Name: b.servers[i].Name})
	}
	return out
}

// indexByName finds the servers by their names.
func (b *backendPlan) indexByName() map[string]int {
	if b.byName == nil {
		b.byName = make(map[string]int, len(b.servers))
		for i := range b.servers {
			b.byName[b.servers[i].Name] = i
		}
	}
	return b.byName
}

func (b *backendPlan) add(inst *catalog.Instance, name string) {
	if b.isOverdue(inst) {
		b.overdueAdds++
	}
	b.additions = append(b.additions, Step{
		Kind: Add, Reason: Registered, Backend: b.Backend, Server: name, Instance: inst.ID,
		Addr: inst.Addr, Weight: inst.Weight, MaxConn: b.limit(inst), Backup: inst.Backup,
		Options: b.Options, Prove: b.Checked, Agent: b.hasAgent() && inst.Weight > 0, AgentPort: b.agentPort(inst),
	})
	b.added = append(b.added, b.fileServer(inst, name))
}

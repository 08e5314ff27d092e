package plan

import (
	"net/netip"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// isReplaced reports whether no capacity is lost with a server that has no
// instance: the one that it was for is served by another server (it has moved into
// a slot, or has become a backup), another one takes traffic at its address, or the
// one there is leaving. HAProxy's check can't tell two at one address apart. An
// instance that is lost, moves away or gets weight 0 replaces no server: it would
// go together with that one.
func (b *backendPlan) isReplaced(s *Server) bool {
	now := b.servedNow()
	return now.names[s.Name] || now.addrs[s.Addr]
}

// isSpare reports whether a candidate is no loss, whatever made it ready.
func (b *backendPlan) isSpare(c candidate) bool { return c.instance == nil && b.isReplaced(c.server) }

// onlyFor returns the instance at the address of a server in traffic that has no
// instance, if that one wants traffic and has no ready server yet: it has become a
// backup or is none any more, or is new there. Its own server may never come.
func (b *backendPlan) onlyFor(s *Server, inst *catalog.Instance) *catalog.Instance {
	if inst != nil || !isAvailable(s) || b.isReplaced(s) {
		return nil
	}
	return b.servedNow().absent[s.Addr]
}

// served is who takes traffic or leaves: the names of the instances, and where
// they are. absent is who should take traffic and has no ready server.
type served struct {
	names  map[string]bool
	addrs  map[netip.AddrPort]bool
	absent map[netip.AddrPort]*catalog.Instance
}

func (b *backendPlan) servedNow() *served {
	if b.served != nil {
		return b.served
	}
	b.served = &served{names: map[string]bool{}, addrs: map[netip.AddrPort]bool{}, absent: map[netip.AddrPort]*catalog.Instance{}}
	for i, inst := range b.bound {
		s := &b.servers[i]
		if inst == nil || s.Addr != inst.Addr || b.role(inst) != in || inst.Weight == 0 {
			continue
		}
		if isAvailable(s) {
			b.served.addrs[inst.Addr] = true
			// Served under the name that it had, its new one may be another's.
			if isSlot(s) || s.Name == inst.Server {
				b.served.names[inst.Server] = true
			}
		}
	}
	for n := range b.want.Instances {
		switch inst := &b.want.Instances[n]; {
		case b.role(inst) == draining:
			b.served.names[inst.Server], b.served.addrs[inst.Addr] = true, true
		case b.role(inst) == in && inst.Weight > 0 && !b.presentNow()[inst]:
			b.served.absent[inst.Addr] = inst
		}
	}
	return b.served
}

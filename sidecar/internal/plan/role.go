package plan

import (
	"net/netip"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// lostRoles names the servers whose instance is registered and lacks a tag that the
// backend asks for. Its role has moved, to another node say: it is taken out at
// once, also as the only server, for a wrong answer is worse than none. It is no
// loss that the guard could judge, because Consul tells that it is there. Its health
// does not matter: a primary that becomes a replica often fails its checks meanwhile.
//
// A server goes by the address that it has, for there its requests come. Only where
// nothing is registered there, its name tells whose it is.
func (b *backendPlan) lostRoles() map[string]bool {
	if len(b.want.Untagged) == 0 || len(b.servers) == 0 {
		return nil
	}
	names, addrs := map[string]bool{}, map[netip.AddrPort]bool{}
	note := func(instances []catalog.Instance, isUntagged bool) {
		for i := range instances {
			inst := &instances[i]
			names[inst.Server], names[formerly(inst)], addrs[inst.Addr] = isUntagged, isUntagged, isUntagged
		}
	}
	note(b.want.Untagged, true)
	note(b.want.Instances, false)
	lost := map[string]bool{}
	for i := range b.servers {
		s := &b.servers[i]
		isUntagged, known := addrs[s.Addr]
		if known && isUntagged || !known && names[s.Name] {
			lost[s.Name] = true
		}
	}
	return lost
}

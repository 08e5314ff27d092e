package consul

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// listing is what the entries of one answer have become.
type listing struct {
	instances []catalog.Instance  // sorted by Server, each name once
	untagged  []catalog.Instance  // that lack a tag; same order
	rejected  []catalog.Rejection // sorted by ID, then Node
	// remarks are on registrations that are used though something optional in
	// them cannot be read: what was ignored, and what holds instead. Same order.
	remarks []catalog.Rejection
}

// list turns entries into instances. A bad one is left out and named; the rest
// go on. It does not depend on their order. Names are given to all of them, so that
// an instance has the same one whatever its tags.
func list(entries []entry, admits admission) listing {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Service.ID, b.Service.ID), cmp.Compare(a.Node.Node, b.Node.Node))
	})
	nodes := nodesOf(entries)
	taken := make(map[string]bool, len(entries))
	var out listing
	for i, e := range entries {
		node := ""
		if nodes[e.Service.ID] > 1 {
			node = e.Node.Node
		}
		if !e.hasTags(admits.tags) {
			if e.isPlain() && e.Service.ID != "" {
				out.untagged = append(out.untagged, e.untagged(node))
			}
			continue
		}
		inst, remark, err := instance(e, node, admits)
		if i > 0 && isTwin(e, entries[i-1]) || i+1 < len(entries) && isTwin(e, entries[i+1]) {
			err = errTwin
		}
		if err == nil && taken[inst.Server] {
			err = fmt.Errorf("server name %q: another instance of the service has it", inst.Server)
		}
		if err != nil {
			out.rejected = append(out.rejected, catalog.Rejection{ID: e.Service.ID, Node: e.Node.Node, Err: err})
			continue
		}
		if remark != nil {
			out.remarks = append(out.remarks, catalog.Rejection{ID: e.Service.ID, Node: e.Node.Node, Err: remark})
		}
		taken[inst.Server] = true
		out.instances = append(out.instances, inst)
	}
	byServer := func(a, b catalog.Instance) int { return cmp.Compare(a.Server, b.Server) }
	slices.SortFunc(out.instances, byServer)
	slices.SortFunc(out.untagged, byServer)
	return out
}

// errTwin refuses both of two entries with one ID on one node. Consul's catalog
// cannot hold them, so nothing says which of the two is right.
var errTwin = errors.New("service ID registered more than once on the node")

func isTwin(a, b entry) bool {
	return a.Service.ID == b.Service.ID && a.Node.Node == b.Node.Node
}

// nodesOf counts the nodes that each ID stands on, in entries sorted by ID and
// node. Bad ones count too: an instance is not renamed because another one's
// registration was corrected.
func nodesOf(entries []entry) map[string]int {
	nodes := make(map[string]int, len(entries))
	for i, e := range entries {
		if i == 0 || !isTwin(e, entries[i-1]) {
			nodes[e.Service.ID]++
		}
	}
	return nodes
}

// instance reads one entry. node is what ServerName is to be given. The remark
// is on what is optional and was passed over.
func instance(e entry, node string, admits admission) (inst catalog.Instance, remark, err error) {
	if e.Service.ID == "" {
		return inst, nil, errors.New("the service ID is empty")
	}
	if !e.isPlain() {
		return inst, nil, fmt.Errorf("service kind %.50q is not an instance", e.Service.Kind)
	}
	addr, err := address(e, admits)
	if err != nil {
		return inst, nil, err
	}
	said, remark, err := readMeta(e.Service.Meta)
	if err != nil {
		return inst, nil, err
	}
	health := aggregate(e.Checks)
	return catalog.Instance{
		ID:      e.Service.ID,
		Node:    e.Node.Node,
		Server:  catalog.ServerName(e.Service.ID, node),
		Addr:    addr,
		Health:  health,
		Weight:  e.Service.Weights.weight(health),
		Version: said.Version,
		Backup:  said.Backup,
		MaxConn: said.MaxConn,
		Leaving: said.Leaving,
	}, remark, nil
}

// readMeta reads the contract's meta. What cannot be read is taken on the side
// that does no harm:
//
//   - version is for people; without it the instance serves all the same;
//   - maxconn: no limit, as for an instance that never named one, since a typo
//     should not take capacity away;
//   - backup: it is one. The owner who wrote the key did not want a share of the
//     normal traffic there, and as a backup it still serves when nothing else does;
//   - pointsman-drain: the instance is left out. Someone has begun to take it
//     away, and an instance left out is drained like one that leaves.
func readMeta(keys map[string]string) (m contract.Meta, remark, err error) {
	m, all := contract.Parse(keys)
	for _, bad := range keyErrors(all) {
		switch bad.Key {
		case contract.KeyDrain:
			return contract.Meta{}, nil, fmt.Errorf("%w: treated as leaving", bad)
		case contract.KeyBackup:
			m.Backup = true
			remark = errors.Join(remark, fmt.Errorf("%w: treated as a backup", bad))
		case contract.KeyMaxConn:
			remark = errors.Join(remark, fmt.Errorf("%w: treated as unlimited", bad))
		default:
			remark = errors.Join(remark, fmt.Errorf("%w: ignored", bad))
		}
	}
	return m, remark, nil
}

func keyErrors(err error) []*contract.KeyError {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	var out []*contract.KeyError
	for _, one := range joined.Unwrap() {
		if bad, ok := errors.AsType[*contract.KeyError](one); ok {
			out = append(out, bad)
		}
	}
	return out
}

// address is where the instance listens: the service's own address, else its
// node's. Only a literal address that a server can have is taken. A host name
// is looked up here, where the service allows that: HAProxy cannot resolve it for a
// server that is added at runtime (haproxy/haproxy#2523).
func address(e entry, admits admission) (netip.AddrPort, error) {
	field, text := "service address", e.Service.Address
	if text == "" {
		field, text = "node address", e.Node.Address
	}
	addr, err := parseAddress(text)
	if field == "service address" && isHostName(text) {
		if admits.resolve == nil {
			return netip.AddrPort{}, fmt.Errorf("service address %.100q: a host name; set resolve: true to have it looked up", text)
		}
		if addr, err = admits.resolve(text); err != nil {
			return netip.AddrPort{}, fmt.Errorf("service address %.100q: %w", text, err)
		}
	}
	switch {
	case text == "":
		return netip.AddrPort{}, errors.New("neither the service nor its node has an address")
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("%s %.100q: not an IP address", field, text)
	case addr.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("%s %.100q: an address with a zone is valid on its own machine only", field, text)
	}
	if e.Service.Port < 1 || e.Service.Port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("port %d: want 1 to 65535", e.Service.Port)
	}
	at := netip.AddrPortFrom(addr.Unmap(), uint16(e.Service.Port))
	if err := admits.check(at, e.Node.Node, e.Node.Datacenter); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s %q, port %d: %w", field, text, at.Port(), err)
	}
	return at, nil
}

// lost reports whether an instance of before is not in after.
func lost(before, after []catalog.Instance) bool {
	return slices.ContainsFunc(before, func(b catalog.Instance) bool {
		_, found := slices.BinarySearchFunc(after, b.Server, func(a catalog.Instance, server string) int {
			return cmp.Compare(a.Server, server)
		})
		return !found
	})
}

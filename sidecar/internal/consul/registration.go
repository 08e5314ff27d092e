package consul

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// registration is what an entry comes to, as far as neither the service's rules nor
// the other entries matter. It is made once, and serves for all answers that have
// the entry.
type registration struct {
	catalog.Instance // Addr is not admitted yet; Server is set by named
	datacenter       string
	created          uint64 // Consul's index of when it was first registered
	entry            *entry // of one that takes a closer look each time; nil for nearly all
	lacksTag         bool
	isOfNode         bool // the address is its node's
	name             nameKind
	claims           []catalog.Claim // as Since it has its own CreateIndex
	output           string          // see outputOf
}

// nameKind is which of its two names a registration's Server is.
type nameKind uint8

const (
	noName   nameKind = iota
	ownName           // of the ID alone
	nodeName          // of the ID and the node
)

// newRegistration reads an entry. Where only the rules for addresses can speak against
// it, and its address is written as Go writes it, the entry itself is not needed
// any more.
func newRegistration(e *entry, tags []string) *registration {
	r := &registration{
		Instance:   catalog.Instance{ID: e.Service.ID, Node: e.Node.Node},
		datacenter: e.Node.Datacenter, created: e.Service.CreateIndex, entry: e, lacksTag: !e.hasTags(tags), isOfNode: e.Service.Address == "",
		output: outputOf(e.Checks),
	}
	for i := range e.Checks { // an entry may stay
		c := &e.Checks[i]
		c.Name, c.Notes, c.Output = "", "", ""
	}
	text := cmp.Or(e.Service.Address, e.Node.Address)
	addr, noAddress := parseAddress(text)
	at, noPort := withPort(addr, e.Service.Port)
	said, remark, noMeta := readMeta(e.Service.Meta)
	if e.Service.ID == "" || !e.isPlain() || errors.Join(noAddress, noPort, remark, noMeta) != nil || addr.Zone() != "" || at.Addr().String() != text {
		return r
	}
	health := aggregate(e.Checks)
	r.entry, r.Addr, r.Health, r.Weight = nil, at, health, e.Service.Weights.weight(health)
	r.Version, r.Backup, r.MaxConn, r.AgentPort, r.Leaving = said.Version, said.Backup || e.isBackup, said.MaxConn, said.AgentPort, said.Leaving
	return r
}

// share takes strings from another registration that has the same ones: most of a
// service's instances have the datacenter and the version in common, and many the
// node.
func (r *registration) share(o *registration) {
	for _, s := range []struct{ own, other *string }{{&r.Node, &o.Node}, {&r.datacenter, &o.datacenter}, {&r.Version, &o.Version}} {
		if *s.own == *s.other {
			*s.own = *s.other
		}
	}
}

// named sets the name of the server: with the node's where the ID stands on
// several.
func (r *registration) named(onSeveral bool) {
	kind, node := ownName, ""
	if onSeveral {
		kind, node = nodeName, r.Node
	}
	if r.name != kind {
		r.Server, r.name = catalog.ServerName(r.ID, node), kind
	}
}

// admit returns the instance, once it is named. The remark is on what is optional and
// was passed over.
func (r *registration) admit(admits admission) (inst catalog.Instance, remark, err error) {
	if r.entry != nil {
		return instance(*r.entry, r.Server, admits)
	}
	if err := admits.check(r.Addr, r.Node, r.datacenter); err != nil {
		field := "service address"
		if r.isOfNode {
			field = "node address"
		}
		return inst, nil, refusedAddress(field, r.Addr.Addr().String(), r.Addr.Port(), err)
	}
	inst = r.Instance
	if remark = checkAgentPort(r.Addr.Addr(), r.AgentPort, r.Node, r.datacenter, admits); remark != nil {
		inst.AgentPort = 0
	}
	return inst, remark, nil
}

// untagged returns what is known of an instance that lacks a tag; ok is false where it is
// no instance.
func (r *registration) untagged() (inst catalog.Instance, ok bool) {
	if r.entry != nil {
		return r.entry.untagged(r.Server), r.entry.isPlain() && r.ID != ""
	}
	return catalog.Instance{ID: r.ID, Node: r.Node, Server: r.Server, Addr: r.Addr}, true
}

// compare sorts by ID, then node.
func (r *registration) compare(o *registration) int {
	return cmp.Or(cmp.Compare(r.ID, o.ID), cmp.Compare(r.Node, o.Node))
}

func (r *registration) isTwin(o *registration) bool { return r.ID == o.ID && r.Node == o.Node }

// listing is what the entries of one answer have become.
type listing struct {
	instances []catalog.Instance  // sorted by Server, each name once
	untagged  []catalog.Instance  // that lack a tag; same order
	rejected  []catalog.Rejection // sorted by ID, then Node
	// remarks are on registrations that are used though something optional in
	// them cannot be read: what was ignored, and what holds instead. Same order.
	remarks []catalog.Rejection
	claims  []catalog.Claim
	outputs []catalog.CheckOutput // same order
}

// list turns registrations, sorted by compare, into instances. A bad one is left
// out and named; the rest go on. Names are given to all of them, so that an instance
// has the same one whatever its tags. Bad ones count too where an ID stands on
// several nodes: an instance is not renamed because another one's registration was
// corrected.
func list(all []*registration, admits admission) listing {
	wanted := 0
	for _, r := range all {
		if !r.lacksTag {
			wanted++
		}
	}
	out := listing{instances: make([]catalog.Instance, 0, wanted)}
	from := make([]*registration, 0, wanted) // of the instances
	hashed := map[string]bool{}              // names that are not the ID: two IDs may have one
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].ID == all[0].ID {
			n++
		}
		for i := range n {
			r := all[i]
			r.named(all[0].Node != all[n-1].Node)
			if r.lacksTag {
				if inst, ok := r.untagged(); ok {
					out.untagged = append(out.untagged, inst)
				}
				continue
			}
			inst, remark, err := r.admit(admits)
			switch {
			case i > 0 && r.isTwin(all[i-1]) || i+1 < n && r.isTwin(all[i+1]):
				err = errTwin
			case err == nil && hashed[r.Server]:
				err = fmt.Errorf("server name %q: another instance of the service has it", r.Server)
			}
			if err != nil {
				out.rejected = append(out.rejected, catalog.Rejection{ID: r.ID, Node: r.Node, Err: err})
				continue
			}
			if remark != nil {
				out.remarks = append(out.remarks, catalog.Rejection{ID: r.ID, Node: r.Node, Err: remark})
			}
			if r.Server != r.ID {
				hashed[r.Server] = true
			}
			out.instances = append(out.instances, inst)
			from = append(from, r)
		}
		all = all[n:]
	}
	from = out.bound(admits.max, from)
	sortByServer(out.instances)
	sortByServer(out.untagged)
	claims := map[catalog.Claim]uint64{} // what is left out claims nothing
	for _, r := range from {
		gather(claims, r.claims)
		if r.output != "" {
			out.outputs = append(out.outputs, catalog.CheckOutput{ID: r.ID, Node: r.Node, Text: r.output})
		}
	}
	out.claims = listClaims(claims)
	return out
}

// bound leaves out what is beyond the limit, if that is not 0. The oldest stay, so
// that a flood takes no server from those that were there, and so that all load
// balancers choose the same. Those of one transaction have one index, and go by ID. It
// gives what is left of from, of which the instances were made.
func (l *listing) bound(limit int, from []*registration) (kept []*registration) {
	if limit == 0 || len(l.instances) <= limit {
		return from
	}
	byAge := make([]int, len(from))
	for i := range byAge {
		byAge[i] = i
	}
	slices.SortStableFunc(byAge, func(a, b int) int { return cmp.Compare(from[a].created, from[b].created) })
	slices.Sort(byAge[:limit])
	err := &catalog.BeyondLimitError{Limit: limit}
	for _, i := range byAge[limit:] {
		l.rejected = append(l.rejected, catalog.Rejection{ID: from[i].ID, Node: from[i].Node, Err: err})
	}
	slices.SortStableFunc(l.rejected, byID)
	instances := make([]catalog.Instance, 0, limit)
	for _, i := range byAge[:limit] {
		instances, kept = append(instances, l.instances[i]), append(kept, from[i])
	}
	l.instances = instances
	return kept
}

func byServer(a, b catalog.Instance) int { return cmp.Compare(a.Server, b.Server) }

// sortByServer: IDs that are names are sorted already.
func sortByServer(instances []catalog.Instance) {
	if !slices.IsSortedFunc(instances, byServer) {
		slices.SortFunc(instances, byServer)
	}
}

// registrations reads entries of which no tags are asked.
func registrations(entries []entry) []*registration {
	all := make([]*registration, len(entries))
	for i := range entries {
		all[i] = newRegistration(&entries[i], nil)
	}
	slices.SortStableFunc(all, (*registration).compare)
	return all
}

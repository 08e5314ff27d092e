package consul

import (
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// put gives an entry the role that it has by its zone. zone is that of this load balancer,
// if other ones are backups; "" is none.
func (e *entry) put(zone string) { e.isBackup = zone != "" && e.Node.Meta.Zone != zone }

// placed returns what is known of the service in the datacenter of one of its watches, as
// said there, with the IDs and roles that its instances have in the backend.
func (s Service) placed(said catalog.Service) catalog.Service {
	if !s.isBackup {
		return said
	}
	said.Instances, said.Untagged = s.backups(said.Instances), s.backups(said.Untagged)
	said.Rejected = slices.Clone(said.Rejected)
	for i := range said.Rejected {
		if r := &said.Rejected[i]; r.ID != "" {
			r.ID = IDFrom(s.from, r.ID)
		}
	}
	slices.SortStableFunc(said.Rejected, byID)
	said.Outputs = slices.Clone(said.Outputs)
	for i := range said.Outputs {
		said.Outputs[i].ID = IDFrom(s.from, said.Outputs[i].ID)
	}
	slices.SortFunc(said.Outputs, catalog.CheckOutput.Compare)
	return said
}

// backups returns instances of another datacenter than the first.
func (s Service) backups(said []catalog.Instance) []catalog.Instance {
	out := slices.Clone(said)
	for n := range out {
		i := &out[n]
		node := i.Node
		if i.Server == catalog.ServerName(i.ID, "") {
			node = ""
		}
		if i.ID != "" {
			i.ID = IDFrom(s.from, i.ID)
		}
		i.Server, i.Backup = catalog.ServerName(i.ID, node), true
	}
	sortByServer(out)
	return out
}

// IDFrom returns the ID that an instance of another datacenter has here. Consul's IDs are
// unique on their node, and nodes in their datacenter only. A name of a datacenter has no
// dot, so no two instances of others have one ID.
func IDFrom(datacenter, id string) string { return id + "." + datacenter }

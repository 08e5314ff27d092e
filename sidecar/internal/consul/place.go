package consul

// place is what the watch of a service makes of where its instances are.
type place struct {
	datacenter string // that is in their IDs; "" for the first one of a service
	zone       string // of this load balancer, if other ones are backups; "" is none
}

// put gives an entry the ID and the role that it has by where it is.
func (p place) put(e *entry) {
	e.isBackup = p.datacenter != "" || p.zone != "" && e.Node.Meta.Zone != p.zone
	if p.datacenter != "" && e.Service.ID != "" {
		e.Service.ID = IDFrom(p.datacenter, e.Service.ID)
	}
}

// IDFrom gives the ID that an instance of another datacenter has here. Consul's IDs are
// unique on their node, and nodes in their datacenter only. A name of a datacenter has no
// dot, so no two instances of others have one ID.
func IDFrom(datacenter, id string) string { return id + "." + datacenter }

package consul

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// entry is one element of the answer of /v1/health/service/NAME: only what is
// used of it, for a service of 10,000 instances has 12 MB of JSON.
type entry struct {
	Node struct {
		Node       string
		Address    string
		Datacenter string
		Meta       struct{ Zone string } // of its meta, only what Service.PreferZone needs
	}
	Service struct {
		Kind    string
		ID      string
		Address string
		Port    int
		Tags    []string
		Meta    map[string]string
		Weights *weights
		// CreateIndex is Consul's index of when it was first registered: the same in
		// every answer, also to other load balancers.
		CreateIndex uint64
	}
	Checks []check

	isBackup bool // by its zone: see put
}

// isPlain reports whether it is an ordinary service. Consul lists proxies of its
// mesh and gateways that are registered under a service's name with its
// instances; they speak TLS of their own, and pass on to others.
func (e entry) isPlain() bool {
	return e.Service.Kind == string(api.ServiceKindTypical) || e.Service.Kind == "typical"
}

// hasTags reports whether it has all the tags, as Consul compares them. Consul is
// asked for all instances of a service: one that lacks a tag is there, in another
// role, and one that is not listed may be lost.
func (e entry) hasTags(tags []string) bool {
	return !slices.ContainsFunc(tags, func(tag string) bool {
		return !slices.ContainsFunc(e.Service.Tags, func(has string) bool { return strings.EqualFold(has, tag) })
	})
}

// untagged is the reason shown for an instance that lacks a tag. An address that cannot
// be read stands for none: its server is known by its name, too.
func (e entry) untagged(server string) catalog.Instance {
	addr, _ := parseAddress(cmp.Or(e.Service.Address, e.Node.Address))
	inst := catalog.Instance{ID: e.Service.ID, Node: e.Node.Node, Server: server}
	if port := e.Service.Port; addr.IsValid() && port > 0 && port <= 65535 {
		inst.Addr = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return inst
}

type weights struct{ Passing, Warning int }

// check is one of an instance or its node. Consul's maintenance mode has its reason in Notes.
type check struct{ CheckID, Status, Name, Notes, Output string }

// maxBody is the most that is read of one answer: eight times what 10,000
// instances with some meta and checks have.
const maxBody = 100 << 20 // bytes

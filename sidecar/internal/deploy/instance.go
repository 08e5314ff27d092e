package deploy

import (
	"cmp"
	"slices"
)

// Instance is one instance of the service, as Consul lists it.
type Instance struct {
	ID      string // Consul's service ID, unique on its node only
	Node    string // Consul's name of the node
	Address string // host:port; "" if it can't be used
	Version string // "" if it says none
	Leaving bool   // it has said that it leaves
	Problem string // why load balancers leave it out, or ""
	Checks  []Check
}

// isFailing reports whether a check of the instance is critical.
func (i Instance) isFailing() bool {
	return slices.ContainsFunc(i.Checks, func(c Check) bool { return c.Status == "critical" })
}

// Check is a check of an instance that is not passing.
type Check struct {
	Name, Status, Output string // as Consul has them: anything may stand there
}

// Key is what an instance is known by: its ID and its node.
type Key struct{ ID, Node string }

// Key returns the instance's.
func (i Instance) Key() Key { return Key{i.ID, i.Node} }

func compareKeys(a, b Key) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node)) }

// Listing is one answer of Consul.
type Listing struct {
	Index     uint64
	Instances []Instance
}

// sorted returns the instances by ID and node, so that nothing depends on the
// order of an answer.
func sorted(list []Instance) []Instance {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Instance) int { return compareKeys(a.Key(), b.Key()) })
	return list
}

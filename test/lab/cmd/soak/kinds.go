package main

import (
	"context"
	"fmt"
	"time"
)

// kind is a kind of fault.
type kind struct {
	name        string
	least, most time.Duration // of its length
	// needs says what the fault takes, see resources.
	needs func(f fault) []string
	// do makes the fault, ends it, and waits until what it has changed is as it
	// should be. The error is that it was not within the limit.
	do func(ctx context.Context, s *site, f fault, h *hold) error
}

// The resources. blind is the one dead node that a HAProxy may not know of yet:
// a request that meets it is tried again elsewhere. Were there two, some would
// meet one after the other until their tries are over.
const (
	blind  = "blind"
	consul = "consul"
)

func out(service string) string { return "out/" + service } // a node is out of traffic
func sidecarOf(lb int) string   { return fmt.Sprintf("sidecar/%d", lb) }
func haproxyOf(lb int) string   { return fmt.Sprintf("haproxy/%d", lb) }
func diskOf(lb int) string      { return fmt.Sprintf("disk/%d", lb) }
func settingsOf(lb int) string  { return fmt.Sprintf("settings/%d", lb) }
func nodeOf(f fault) string     { return nodeAt(f.service, f.node) }
func nodeAt(service, node int) string {
	return fmt.Sprintf("node/%s/%d", fleets[service].service, node)
}

// supply is how much there is of each: a minority of a service's nodes may be
// out of traffic.
func supply() map[string]int {
	free := map[string]int{blind: 1, consul: 1}
	for i, f := range fleets {
		free[out(f.service)] = (f.nodes - 1) / 2
		free["rolling/"+f.service] = 1
		for n := range f.nodes {
			free[nodeAt(i, n)] = 1
		}
	}
	for lb := range balancers {
		for _, name := range []string{sidecarOf(lb), haproxyOf(lb), diskOf(lb), settingsOf(lb)} {
			free[name] = 1
		}
	}
	return free
}

// kinds are all that can be made here.
func kinds(disk bool) []kind {
	all := append(nodeKinds(), sidecarKinds()...)
	all = append(all, consulKinds()...)
	all = append(all, driftKinds()...)
	all = append(all, haproxyKinds()...)
	all = append(all, settingsKinds()...)
	return append(all, diskKinds(disk)...)
}

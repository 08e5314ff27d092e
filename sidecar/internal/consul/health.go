package consul

import (
	"cmp"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// aggregate is the worst that an instance's checks and its node's say, in the
// order of Consul's own api.HealthChecks.AggregatedStatus. No checks at all is
// passing, as there. A state that is not Consul's is critical: what cannot be
// read has not said that it is well.
func aggregate(checks []check) catalog.Health {
	worst := catalog.Passing
	for _, c := range checks {
		worst = max(worst, state(c))
	}
	return worst
}

// The most that is kept of a check's name and of its output, in bytes.
const (
	maxCheckName   = 60
	maxCheckOutput = 240
)

// outputOf is what the first of the worst checks says; "" while all pass. Texts that stay
// share no memory with the answer.
func outputOf(checks []check) string {
	worst, is := catalog.Passing, check{}
	for _, c := range checks {
		if s := state(c); s > worst {
			worst, is = s, c
		}
	}
	name, said := catalog.Excerpt(cmp.Or(is.Name, is.CheckID), maxCheckName), catalog.Excerpt(cmp.Or(is.Output, is.Notes), maxCheckOutput)
	switch {
	case worst == catalog.Passing:
		return ""
	case said == "":
		return strings.Clone(name)
	}
	return name + ": " + said
}

func state(c check) catalog.Health {
	switch {
	case c.CheckID == api.NodeMaint, strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix):
		return catalog.Maintenance
	case c.Status == api.HealthPassing:
		return catalog.Passing
	case c.Status == api.HealthWarning:
		return catalog.Warning
	}
	return catalog.Critical
}

// maxWeight is HAProxy's largest (configuration manual, "weight").
const maxWeight = 256

// weight is HAProxy's weight for an instance: Consul's number itself, cut to
// 0..256, so that weights keep their proportions up to 256 and one instance's
// never depends on another's. Consul's default is 1, for passing and warning
// alike; where all are 1, all get the same share. Who wants room between, as
// for a canary, registers 100.
//
// While critical or in maintenance an instance gets nothing by its state; its
// weight stays the passing one, so that it has it when it comes back.
func (w *weights) weight(h catalog.Health) int {
	if w == nil {
		return 1
	}
	chosen := w.Passing
	if h == catalog.Warning {
		chosen = w.Warning
	}
	return max(0, min(chosen, maxWeight))
}

package registrator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// others reads the sidecars of other datacenters.
type others struct {
	names []string
	wait  time.Duration // for each, at most
	heard map[string][]sidecar
}

// ask asks for all of them at once. What it gives waits for the answers, and gives the
// sidecars, and whether the token may not read all. For a datacenter without an answer the
// last one holds. One that has had none stands for sidecars that cannot be asked.
func (o *others) ask(ctx context.Context, c *catalog) func() (all []sidecar, isFiltered bool) {
	type answer struct {
		sidecars   []sidecar
		isFiltered bool
		err        error
	}
	answers := make([]answer, len(o.names))
	var asked sync.WaitGroup
	for i, name := range o.names {
		if name == c.own {
			continue
		}
		asked.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, min(o.wait, callTimeout), fmt.Errorf("no answer within %v", min(o.wait, callTimeout)))
			defer cancel()
			entries, meta, err := c.health.Service(c.sidecars, "", false, (&api.QueryOptions{Datacenter: name}).WithContext(ctx))
			if err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				answers[i].err = fmt.Errorf("ask Consul for the sidecars of datacenter %s: %w", name, err)
				return
			}
			answers[i].sidecars, answers[i].isFiltered = sidecarsOf(entries, c.service, c.own, name), meta.ResultsFilteredByACLs
		})
	}
	return func() (all []sidecar, isFiltered bool) {
		asked.Wait()
		for i, name := range o.names {
			a, isHeard := answers[i], false
			if a.err != nil {
				if a.sidecars, isHeard = o.heard[name]; !isHeard {
					all = append(all, sidecar{key: name, name: "datacenter " + name, datacenter: name, unread: true, bad: a.err})
					continue
				}
			}
			if name != c.own {
				o.heard[name] = a.sidecars
			}
			all, isFiltered = append(all, a.sidecars...), isFiltered || a.isFiltered
		}
		return all, isFiltered
	}
}

package deploy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The bounds of what is asked.
const (
	// lookTimeout bounds how long an answer is tried for when nothing is under
	// way that would be worth more patience.
	lookTimeout = 10 * time.Second
	// pollWait is how long a load balancer is asked to wait at most: a sidecar
	// that is replaced is found again after it.
	pollWait = 10 * time.Second

	// breath is between two questions where the first was answered with no: one
	// that should have been waited for may come back at once.
	breath = 50 * time.Millisecond

	firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
)

// list asks Consul until it answers, or the time is over.
func (d *Deployment) list(ctx context.Context, limit time.Duration) (Listing, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for tries := 0; ; tries++ {
		listing, err := d.Catalog.Instances(within)
		if err == nil {
			err = d.learn(within, listing)
		}
		if err == nil {
			return listing, nil
		}
		if !pause(within, tries) {
			if ctx.Err() != nil {
				return Listing{}, context.Cause(ctx)
			}
			return Listing{}, fmt.Errorf("no answer from Consul about %s within %s: %w", d.Service, seconds(limit), err)
		}
	}
}

// learn finds out which of the instances that have come are nodes that this
// deployment has started.
func (d *Deployment) learn(ctx context.Context, listing Listing) error {
	if d.fleet == nil {
		return nil // they were there before
	}
	list := d.fleet.unknown(listing.Instances)
	if len(list) == 0 {
		return nil
	}
	nodes, err := d.Nodes.Started(ctx, list)
	if err != nil {
		return fmt.Errorf("which of the new instances were started by this deployment: %w", err)
	}
	d.fleet.learn(list, nodes)
	return nil
}

// finalState notes what runs at the end, interrupted or not.
func (d *Deployment) finalState(ctx context.Context) {
	if d.fleet == nil {
		return
	}
	listing, err := d.list(context.WithoutCancel(ctx), lookTimeout/2)
	if err != nil {
		return // New and Old stay nil: unknown
	}
	d.result.New, d.result.Old = standings(d.fleet.fresh(listing)), []Standing{}
	d.nameForeign(listing)
	for _, i := range sorted(listing.Instances) {
		if d.fleet.isOld(i) {
			d.result.Old = append(d.result.Old, standings([]Instance{i})...)
		}
	}
}

// nameForeign names the foreign instances that were not named yet.
func (d *Deployment) nameForeign(listing Listing) {
	foreign := d.fleet.foreign(listing)
	d.result.Foreign = standings(foreign)
	foreign = slices.DeleteFunc(foreign, func(i Instance) bool { return d.named[i.Key()] })
	for _, i := range foreign {
		d.named[i.Key()] = true
	}
	if len(foreign) > 0 {
		d.warn("%s foreign, neither stopped nor counted", quoteInstances(foreign, "is", "are"))
	}
}

// quoteInstances names instances, with the verb that fits.
func quoteInstances(list []Instance, one, many string) string {
	names := make([]string, 0, len(list))
	for _, i := range list[:min(len(list), maxExplained)] {
		names = append(names, fmt.Sprintf("%s (version %s)", Quote(i.ID), Quote(i.Version)))
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	if len(list) == 1 {
		return names[0] + " " + one
	}
	return strings.Join(names, ", ") + " " + many
}

func standings(list []Instance) []Standing {
	out := make([]Standing, 0, len(list))
	for _, i := range list {
		out = append(out, Standing{ID: i.ID, Node: i.Node, Version: i.Version, Leaving: i.Leaving, Failing: i.isFailing()})
	}
	return out
}

// pause waits before another try, longer and longer and with full jitter, and
// reports whether there is time for one.
func pause(ctx context.Context, tries int) bool {
	most := min(firstPause<<min(tries, 10), longestPause)
	return wait(ctx, most/2+rand.N(most/2)) //nolint:gosec // no secret
}

// wait waits, and reports whether ctx is alive after it.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// left is how long a load balancer may be asked to wait: no longer than ctx
// lasts.
func left(ctx context.Context) time.Duration {
	end, bounded := ctx.Deadline()
	if !bounded {
		return pollWait
	}
	return max(0, min(pollWait, time.Until(end)))
}

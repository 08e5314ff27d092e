package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// errNotLive says that not every load balancer had all new ones live in time;
// explain tells the rest.
var errNotLive = errors.New("new version not live on every load balancer")

// viewEvery is how often a load balancer's whole view is read, where counting
// by version does not tell which instances are new.
const viewEvery = 300 * time.Millisecond

// awaitLive waits until every load balancer has goal new ones live, and has had
// the same ones live for minHealthy: one that is lost before has until the
// timeout to become live again.
func (d *Deployment) awaitLive(ctx context.Context, minHealthy time.Duration) error {
	begun := time.Now()
	d.step(Step{Name: "wait until live", Detail: fmt.Sprintf("%d of %s on every load balancer", d.fleet.goal, d.Version), AtDeadline: d.atLiveDeadline()}, d.Timeout)
	within, cancel := context.WithDeadline(ctx, begun.Add(d.Timeout))
	defer cancel()
	holding, cancel := context.WithDeadline(ctx, begun.Add(d.Timeout+minHealthy))
	defer cancel()
	for {
		if err := d.awaitAll(ctx, within); err != nil {
			return err
		}
		if minHealthy > 0 {
			d.say("%d of %s live on %s, after %s: watching for %s",
				d.fleet.goal, d.Version, balancers(d.board.bars()), seconds(time.Since(begun)), seconds(minHealthy))
		}
		if minHealthy > 0 {
			next := "the old instances are stopped"
			if d.fleet.unshared {
				next = "the new version gets its traffic"
			}
			d.step(Step{Name: "watch", Detail: fmt.Sprintf("the new instances must stay live for %s", seconds(minHealthy)), AtDeadline: next}, minHealthy)
		}
		steady, err := d.hold(holding, minHealthy)
		gone, isLost := errors.AsType[*lostError](err)
		switch {
		case err == nil:
			d.steady = steady
			if minHealthy > 0 {
				d.say("new instances stayed live")
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !isLost:
			return errNotLive
		}
		d.gone = gone.lost
		d.say("%v, after %s", err, seconds(time.Since(begun)))
	}
}

// awaitAll waits until every load balancer has goal new ones live, all of them
// at the same time: what the first has said may no longer hold when the last
// one says it.
func (d *Deployment) awaitAll(ctx, within context.Context) error {
	for {
		_ = d.refresh(within) // those that are known are asked in any case
		names := d.board.names()
		var late atomic.Bool
		each(names, func(_ int, name string) {
			d.board.set(name, func(b *Bar) { b.Want = d.fleet.goal })
			if !d.liveOn(within, name) {
				late.Store(true)
			}
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case within.Err() != nil:
			return errNotLive
		case !late.Load():
			return nil
		}
	}
}

// liveOn waits until one load balancer has them live. It reports whether it had
// them at once.
func (d *Deployment) liveOn(ctx context.Context, name string) (atOnce bool) {
	failures := 0
	for asked := 0; ctx.Err() == nil; asked++ {
		live, err := d.askLive(ctx, d.board.balancer(name))
		if errors.Is(err, ErrNotRouted) {
			d.board.unrouted(name)
			return true
		}
		if err != nil {
			if ctx.Err() == nil { // else it is our own end
				d.board.set(name, func(b *Bar) { b.Trouble = err.Error() })
			}
			pause(ctx, failures)
			_ = d.refresh(ctx)
			failures++
			continue
		}
		failures = 0
		d.board.set(name, func(b *Bar) { b.Live, b.Trouble = min(live, d.fleet.goal), "" })
		if live >= d.fleet.goal {
			return asked == 0
		}
		if err := d.waitLive(ctx, d.board.balancer(name)); err != nil {
			pause(ctx, 0) // the next question says why
		}
	}
	return false
}

// askLive counts the new ones that take traffic on a load balancer.
func (d *Deployment) askLive(ctx context.Context, b Balancer) (int, error) {
	view, err := d.view(ctx, b)
	return len(d.fleet.liveIn(view)), err
}

// waitLive waits until it is worth counting again. A load balancer counts all
// instances of the version, also those that are not new, and so may answer at
// once.
func (d *Deployment) waitLive(ctx context.Context, b Balancer) error {
	if d.fleet.unshared { // it counts those that take traffic
		wait(ctx, viewEvery)
		return nil
	}
	isLive, err := d.Balancers.Live(ctx, b, d.Version, d.fleet.goal, left(ctx))
	switch {
	case err != nil:
		return err
	case isLive:
		wait(ctx, viewEvery)
	default:
		wait(ctx, breath)
	}
	return nil
}

// explain says why the new ones are not live: each load balancer's word, and of
// each new one what Consul and the load balancers say.
func (d *Deployment) explain(ctx context.Context, begun time.Time) {
	waited := time.Since(begun).Milliseconds()
	for _, bar := range d.board.bars() {
		switch {
		case bar.Trouble != "":
			d.problem(Problem{LoadBalancer: bar.Name, WaitedMS: waited, Reason: fmt.Sprintf("%s unreachable: %s", bar.Name, bar.Trouble)})
		case bar.Live < bar.Want:
			d.problem(Problem{LoadBalancer: bar.Name, WaitedMS: waited, Reason: fmt.Sprintf("%s has %d of %d of %s live", bar.Name, bar.Live, bar.Want, d.Version)})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	listing, err := d.list(ctx, lookTimeout/2)
	if err != nil {
		d.problem(Problem{Reason: err.Error()})
		return
	}
	fresh := d.fleet.fresh(listing)
	if len(fresh) < d.fleet.goal {
		d.problem(Problem{WaitedMS: waited, Reason: fmt.Sprintf("%d of %d of %s have registered in Consul", len(fresh), d.fleet.goal, d.Version)})
	}
	for _, key := range d.gone[:min(len(d.gone), maxExplained)] {
		d.problem(Problem{Instance: key.ID, WaitedMS: waited, Reason: Quote(key.ID) + " was live, but is no longer"})
	}
	d.explainStrays(listing)
	views, _ := d.views(ctx)
	for _, i := range fresh[:min(len(fresh), maxExplained)] {
		d.explainInstance(i, views, waited)
	}
}

// maxExplained is of how many instances more than their number is shown.
const maxExplained = 20

func (d *Deployment) explainStrays(listing Listing) {
	foreign, inPlace := d.fleet.strays(listing)
	for _, i := range foreign[:min(len(foreign), maxExplained)] {
		reason := fmt.Sprintf("%s has registered since, as version %s", Quote(i.ID), Quote(i.Version))
		if i.Version == d.Version {
			reason += ", but is not one of the started instances: a new instance registers under its DEPLOY_INSTANCE (or see --include-foreign)"
		}
		d.problem(Problem{Instance: i.ID, Reason: reason})
	}
	for _, i := range inPlace[:min(len(inPlace), maxExplained)] {
		d.problem(Problem{Instance: i.ID, Reason: fmt.Sprintf("%s replaced an old instance under the same ID: a new instance needs its own ID", Quote(i.ID))})
	}
}

func (d *Deployment) explainInstance(i Instance, views map[string]View, waited int64) {
	if i.Problem != "" {
		d.problem(Problem{Instance: i.ID, Reason: fmt.Sprintf("%s cannot be routed to: %s", Quote(i.ID), Quote(i.Problem))})
	}
	for _, c := range i.Checks {
		d.problem(Problem{
			Instance: i.ID, Check: c.Name, Status: c.Status, Output: c.Output, WaitedMS: waited,
			Reason: fmt.Sprintf("%s: check %s is %s, its last output %s", Quote(i.ID), Quote(c.Name), safeOr(c.Status, "in an unknown state"), Quote(c.Output)),
		})
	}
	for _, name := range d.board.names() {
		view, asked := views[name]
		seen, known := view.Instances[i.Key()]
		switch {
		case !asked || seen.Takes:
		case view.Rejected[i.Key()] != "":
			d.problem(Problem{Instance: i.ID, LoadBalancer: name, Reason: fmt.Sprintf("%s on %s: ignored: %s", Quote(i.ID), name, Quote(view.Rejected[i.Key()]))})
		case !known:
			d.problem(Problem{Instance: i.ID, LoadBalancer: name, Reason: fmt.Sprintf("%s on %s: instance unknown", Quote(i.ID), name)})
		default:
			reason := fmt.Sprintf("%s on %s: phase %s", Quote(i.ID), name, safeOr(seen.Phase, "unknown"))
			if seen.Check != "" {
				reason += ", HAProxy's check " + Quote(seen.Check)
			}
			d.problem(Problem{Instance: i.ID, LoadBalancer: name, Phase: seen.Phase, Output: seen.Check, WaitedMS: waited, Reason: reason})
		}
	}
}

func safeOr(s, otherwise string) string {
	if s = safe(s); s != "" {
		return s
	}
	return otherwise
}

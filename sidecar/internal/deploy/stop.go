package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errNotStopped says that an old one could not be stopped; the problems tell
// which.
var errNotStopped = errors.New("some old instances could not be stopped")

// takeOut stops the old ones that may go now, and waits until every load
// balancer reports them as drained. It gives what Consul lists then.
func (d *Deployment) takeOut(ctx context.Context, listing Listing) (Listing, error) {
	stop, leaving := d.fleet.toStop(listing)
	if len(stop)+len(leaving) == 0 {
		return listing, nil
	}
	begun := time.Now()
	watched, end := d.watched(ctx)
	defer end()
	failed, err := d.stop(ctx, listing, stop, func() bool { return watched.Err() == nil })
	if ctx.Err() != nil {
		return listing, context.Cause(ctx)
	}
	after, listErr := d.list(ctx, d.DrainTimeout)
	if listErr != nil {
		return listing, errors.Join(err, listErr)
	}
	stuck := d.sortOut(failed, after)
	going := leaving
	for _, i := range stop {
		if !stuck[i.Key()] {
			going = append(going, i)
		}
	}
	if err := d.awaitDrained(watched, going, after); err != nil {
		return after, d.lostOr(ctx, err)
	}
	d.fleet.drained(going)
	if watched.Err() != nil {
		return after, d.lostOr(ctx, context.Cause(watched))
	}
	if len(stuck) > 0 {
		return after, errNotStopped
	}
	d.say("old instances drained: %d on %s, after %s", len(going), balancers(d.board.bars()), seconds(time.Since(begun)))
	return after, nil
}

// stop tells the old ones to stop, for as long as may says yes. It gives why it
// failed for which.
func (d *Deployment) stop(ctx context.Context, listing Listing, list []Instance, may func() bool) (map[Key]error, error) {
	if len(list) == 0 {
		return nil, nil
	}
	rest := len(d.fleet.old(listing)) - len(list)
	d.say("stopping old instances: %d", len(list))
	d.step(Step{Name: "stop", Detail: fmt.Sprintf("%d old instances, %d left after", len(list), rest)}, 0)
	d.touched = true
	err := d.Nodes.Stop(ctx, Stop{
		Service: d.Service, Version: d.Version, Total: d.fleet.count, Instances: list,
		Last: rest == 0 && d.fleet.goal >= d.fleet.count, Keep: d.fleet.fresh(listing), May: may,
	})
	failed := failures(err, list)
	for _, i := range list {
		if failed[i.Key()] == nil {
			d.result.Stopped = append(d.result.Stopped, i.ID)
		}
	}
	return failed, err
}

// failures returns the error of each instance that could not be stopped. One
// that names no instance is all of theirs.
func failures(err error, list []Instance) map[Key]error {
	if err == nil {
		return nil
	}
	out := map[Key]error{}
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, e := range errs {
		if one, ok := errors.AsType[*StopError](e); ok {
			out[one.Instance] = one
			continue
		}
		for _, i := range list {
			out[i.Key()] = e
		}
	}
	return out
}

// sortOut tells those that could not be stopped from those that are gone all the
// same: a command that stops what has stopped already may well fail.
func (d *Deployment) sortOut(failed map[Key]error, now Listing) (stuck map[Key]bool) {
	stuck = map[Key]bool{}
	for _, i := range sorted(now.Instances) {
		if err := failed[i.Key()]; err != nil {
			stuck[i.Key()] = true
			d.problem(Problem{Instance: i.ID, Reason: err.Error()})
		}
	}
	for key, err := range failed {
		if !stuck[key] {
			d.warn("%s; Consul no longer lists it", err)
		}
	}
	return stuck
}

// takeBack stops the new ones of this wave again.
func (d *Deployment) takeBack(ctx context.Context) {
	d.say("stopping the new instances again")
	d.step(Step{Name: "take back", Detail: "the new instances are stopped, the old ones are not touched"}, 0)
	var back []Instance
	missing := map[string]bool{}
	for _, id := range d.proposed {
		missing[id] = true
	}
	listing, err := d.list(ctx, lookTimeout)
	if err != nil {
		d.warn("running new instances unknown: %v", err)
	}
	for _, i := range sorted(listing.Instances) {
		isOurs := d.fleet.isNew(i) && !d.baseline[i.Key()] || missing[i.ID]
		if isOurs && !d.back[i.Key()] {
			back = append(back, i)
		}
		delete(missing, i.ID)
	}
	s := Stop{Service: d.Service, Version: d.Version, Total: d.fleet.count, Undo: true, Keep: d.keeps(listing)}
	for _, i := range back {
		if err := CheckWord(i.ID); err != nil {
			d.undo = true
			d.problem(Problem{Instance: i.ID, Reason: fmt.Sprintf("%s cannot be stopped: its ID %v", Quote(i.ID), err)})
			continue
		}
		s.Instances = append(s.Instances, i)
	}
	if len(back) < len(d.proposed) {
		for _, id := range d.proposed {
			if missing[id] {
				s.Missing = append(s.Missing, id)
			}
		}
	}
	d.proposed = nil
	if len(s.Instances)+len(s.Missing) > 0 {
		d.undone(s, d.Nodes.Stop(ctx, s))
	}
}

// undone notes what came of it. A node that has not registered gets no traffic:
// that it could not be stopped is worth a warning.
func (d *Deployment) undone(s Stop, err error) {
	failed := failures(err, s.Instances)
	for _, i := range s.Instances {
		if failed[i.Key()] == nil {
			d.result.Undone, d.back[i.Key()] = append(d.result.Undone, i.ID), true
			continue
		}
		d.undo = true
		d.problem(Problem{Instance: i.ID, Reason: "stop after failure: " + failed[i.Key()].Error()})
		delete(failed, i.Key())
	}
	for _, e := range failed {
		d.warn("a new instance that has not registered may run still: %v", e)
	}
	if err != nil && len(s.Instances) == 0 && len(failed) == 0 {
		d.warn("new instances that have not registered may run still: %v", err)
	}
}

// keeps returns what stays where the wave is taken back.
func (d *Deployment) keeps(listing Listing) (out []Instance) {
	for _, i := range sorted(listing.Instances) {
		if d.fleet.isOld(i) || d.baseline[i.Key()] {
			out = append(out, i)
		}
	}
	return out
}

package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errNotDrained says that not every load balancer reports the old ones as drained;
// the problems tell which.
var errNotDrained = errors.New("old version not drained on every load balancer")

// maxAsked is of how many instances one load balancer is asked at a time.
const maxAsked = 16

// awaitDrained waits until no session is on these instances on any load balancer.
// now is what Consul lists after they were stopped: what a load balancer knew
// before that proves nothing.
func (d *Deployment) awaitDrained(ctx context.Context, list []Instance, now Listing) error {
	if len(list) == 0 {
		return nil
	}
	begun := time.Now()
	d.step(Step{Name: "wait until drained", Detail: fmt.Sprintf("%d old instances on every load balancer", len(list)), AtDeadline: atDrainDeadline}, d.DrainTimeout)
	within, cancel := context.WithTimeout(ctx, d.DrainTimeout)
	defer cancel()
	_ = d.refresh(within) // those that are known are asked in any case
	shared := sharedIDs(list, now)
	var mu sync.Mutex
	var left []Problem
	each(d.board.names(), func(_ int, name string) {
		d.board.set(name, func(b *Bar) { b.Of += len(list) })
		slots := make(chan struct{}, maxAsked)
		var all sync.WaitGroup
		for _, i := range list {
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				p, ok := d.drainedOn(within, name, i, now.Index, shared[i.ID])
				if ok {
					d.board.set(name, func(b *Bar) { b.Drained, b.Waits = b.Drained+1, "" })
					return
				}
				mu.Lock()
				defer mu.Unlock()
				left = append(left, p)
			})
		}
		all.Wait()
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, p := range left[:min(len(left), maxExplained)] {
		p.WaitedMS = time.Since(begun).Milliseconds()
		d.problem(p)
	}
	if len(left) > 0 {
		return errNotDrained
	}
	return nil
}

// drainedOn waits until no session is on one instance on one load balancer, or says
// what is left.
func (d *Deployment) drainedOn(ctx context.Context, name string, i Instance, index uint64, shared bool) (Problem, bool) {
	p := Problem{LoadBalancer: name, Instance: i.ID, Reason: fmt.Sprintf("%s on %s: no answer yet", Quote(i.ID), name)}
	for failures := 0; ctx.Err() == nil; {
		drain, err := d.askDrained(ctx, d.board.balancer(name), i, index, shared)
		switch {
		case errors.Is(err, ErrNotRouted), err == nil && drain.Drained:
			d.board.set(name, func(b *Bar) { b.Trouble = "" })
			return p, true
		case err == nil:
			failures = 0
			p.Phase = drain.Phase
			p.Reason = fmt.Sprintf("%s on %s: not drained: phase %s, %d sessions", Quote(i.ID), name, safeOr(drain.Phase, "unknown"), drain.Sessions)
			d.board.set(name, func(b *Bar) { b.Waits, b.Trouble = p.Reason, "" })
			wait(ctx, breath)
		case ctx.Err() != nil: // our own end
		default:
			p.Phase = ""
			p.Reason = fmt.Sprintf("%s on %s: %s unreachable: %v", Quote(i.ID), name, name, err)
			d.board.set(name, func(b *Bar) { b.Trouble = err.Error() })
			pause(ctx, failures)
			_ = d.refresh(ctx)
			failures++
		}
	}
	return p, false
}

// askDrained asks once. Where another instance has the same ID, on another
// node, only the whole view tells them apart.
func (d *Deployment) askDrained(ctx context.Context, b Balancer, i Instance, index uint64, shared bool) (Drain, error) {
	if !shared {
		return d.Balancers.Drained(ctx, b, i.ID, index, left(ctx))
	}
	view, err := d.Balancers.View(ctx, b)
	if err != nil {
		return Drain{}, err
	}
	seen, known := view.Instances[i.Key()]
	drain := Drain{Phase: seen.Phase, Sessions: seen.Sessions}
	gone := !known && !view.Unlisted
	drain.Drained = view.Index >= index && seen.Sessions == 0 && (gone || seen.Phase == "drained" || seen.Phase == "out")
	if !drain.Drained {
		wait(ctx, viewEvery)
	}
	return drain, nil
}

// sharedIDs returns the IDs of the list that some other instance has, too.
func sharedIDs(list []Instance, now Listing) map[string]bool {
	nodes := map[string]map[Key]bool{}
	note := func(i Instance) {
		if nodes[i.ID] == nil {
			nodes[i.ID] = map[Key]bool{}
		}
		nodes[i.ID][i.Key()] = true
	}
	for _, i := range list {
		note(i)
	}
	for _, i := range now.Instances {
		note(i)
	}
	shared := map[string]bool{}
	for _, i := range list {
		shared[i.ID] = len(nodes[i.ID]) > 1
	}
	return shared
}

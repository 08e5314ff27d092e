package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// view asks a load balancer for all that it knows of the service. Where there
// are instances of which it is not known whether they are new, Consul is asked
// who they are.
func (d *Deployment) view(ctx context.Context, b Balancer) (View, error) {
	view, err := d.Balancers.View(ctx, b)
	if err == nil && len(d.fleet.unknown(view.list())) > 0 {
		_, err = d.list(ctx, lookTimeout)
	}
	return view, err
}

// views asks every load balancer, all at once, for what it knows, by its name. silent
// are those that do not answer, with the reason.
func (d *Deployment) views(ctx context.Context) (views map[string]View, silent map[string]error) {
	views, silent = map[string]View{}, map[string]error{}
	var mu sync.Mutex
	each(d.board.names(), func(_ int, name string) {
		view, err := d.view(ctx, d.board.balancer(name))
		switch {
		case errors.Is(err, ErrNotRouted):
			d.board.unrouted(name)
			return
		case err == nil:
			d.board.set(name, func(b *Bar) { b.Live, b.Trouble = min(len(d.fleet.liveIn(view)), d.fleet.goal), "" })
		case ctx.Err() == nil: // else it is our own end
			d.board.set(name, func(b *Bar) { b.Trouble = err.Error() })
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			silent[name] = err
			return
		}
		views[name] = view
	})
	return views, silent
}

// awaitView waits until every load balancer's view is as wanted, also of one that comes
// meanwhile. lacks says what a view lacks, or "", and whether waiting does not help.
func (d *Deployment) awaitView(ctx context.Context, step Step, lacks func(View) (text string, isFinal bool)) error {
	d.step(step, d.Timeout)
	within, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	for {
		_ = d.refresh(within) // those that are known are asked in any case
		views, silent := d.views(within)
		var errs []error
		isOver := false
		for _, name := range slices.Sorted(maps.Keys(silent)) {
			errs = append(errs, fmt.Errorf("%s unreachable: %w", name, silent[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(views)) {
			if text, isFinal := lacks(views[name]); text != "" {
				errs, isOver = append(errs, errors.New(name+" "+text)), isOver || isFinal
			}
		}
		err := errors.Join(errs...)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil, isOver:
			return err
		case !wait(within, viewEvery):
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
}

// lacksShare0 says why a load balancer might give the version more traffic than the
// steps do, of which first is the first; "" where it does not.
func (d *Deployment) lacksShare0(v View, first int) (text string, isFinal bool) {
	switch s, has := v.Shares[d.Version]; {
	case v.Unapplied != "":
		return "does not apply the rollout: " + Quote(v.Unapplied), false
	case v.Fixed != "" && first < 100:
		return "takes no other shares than 0 and 100: " + Quote(v.Fixed), true
	case !has:
		return "has not read the rollout: the sidecar's token needs key:read for pointsman/rollouts/, and the sidecar must have this version of pointsman", false
	case s.Wanted != 0:
		return fmt.Sprintf("gives %s a share of %d%%", d.Version, s.Wanted), false
	}
	return "", false
}

// lacksOld says why it is not safe to stop the canary, by a load balancer; "" where it is.
func (d *Deployment) lacksOld(v View) (text string, isFinal bool) {
	isServed := false
	for _, i := range v.list() {
		takes := v.Instances[i.Key()].Takes
		switch {
		case takes && d.fleet.isNew(i):
			return fmt.Sprintf("still sends requests to %s", Quote(i.ID)), false
		case takes && d.fleet.isOld(i):
			isServed = true
		}
	}
	if !isServed {
		return "has no instance of the old version that takes traffic", false
	}
	return "", false
}

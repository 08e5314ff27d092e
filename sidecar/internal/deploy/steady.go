package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// lookEvery is how often the load balancers are asked whether the new
	// instances are still live.
	lookEvery = time.Second
	// lostAfter is how long an instance is out of traffic before it is lost. One
	// failed check is not its end, and a Consul that has forgotten everything has
	// it again after some 2 seconds.
	lostAfter = 5 * time.Second
)

// lostError says that new instances were live and no longer are.
type lostError struct{ lost []Key }

func (e *lostError) Error() string { return "new instances are no longer live: " + quoteIDs(e.lost) }

// keySet is a set of instances.
type keySet map[Key]bool

// liveNow asks every load balancer, all at once, which new instances take
// traffic on it, and returns those that do on each that answered. It returns
// nil if none answered. all reports whether every one of them answered.
func (d *Deployment) liveNow(ctx context.Context) (live keySet, all bool) {
	views, silent := d.views(ctx)
	for _, view := range views {
		if here := d.fleet.liveIn(view); live == nil {
			live = here
		} else {
			live = live.and(here)
		}
	}
	return live, len(silent) == 0
}

func (s keySet) and(o keySet) keySet {
	s = maps.Clone(s)
	maps.DeleteFunc(s, func(k Key, _ bool) bool { return !o[k] })
	return s
}

// hold waits until the same new instances have been live on every load balancer
// for the time. It returns them, or a lostError as soon as too few of them are.
func (d *Deployment) hold(ctx context.Context, minHealthy time.Duration) (keySet, error) {
	begun := time.Now()
	var steady keySet
	for {
		live, all := d.liveNow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case live == nil:
		case steady == nil:
			steady = live
		default:
			if err := lost(steady, live, d.fleet.goal); err != nil {
				return nil, err
			}
			steady = steady.and(live)
		}
		left := minHealthy - time.Since(begun)
		switch {
		case len(steady) < d.fleet.goal && live != nil:
			return nil, lost(steady, live, d.fleet.goal)
		case all && live != nil && left <= 0:
			return steady, nil
		}
		wait(ctx, min(lookEvery, max(left, breath)))
	}
}

// lost returns a lostError if fewer than want of the steady ones are live.
func lost(steady, live keySet, want int) error {
	gone := maps.Clone(steady)
	maps.DeleteFunc(gone, func(k Key, _ bool) bool { return live[k] })
	if len(steady)-len(gone) >= want {
		return nil
	}
	return &lostError{slices.SortedFunc(maps.Keys(gone), compareKeys)}
}

// guard asks again and again whether the steady ones are live, until ctx ends,
// and returns a lostError if too few of them are for lostAfter. With once it
// returns nil as soon as all load balancers have them live.
func (d *Deployment) guard(ctx context.Context, once bool) error {
	var since time.Time // since when too few are; zero: enough are
	for {
		live, all := d.liveNow(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if live != nil {
			err := lost(d.steady, live, d.fleet.goal)
			switch {
			case err == nil && once && all:
				return nil
			case err == nil:
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			case time.Since(since) >= lostAfter:
				return err
			}
		}
		wait(ctx, lookEvery)
	}
}

// watched returns a context that ends, with the reason as its cause, when too few of the
// new instances are live, which is a lostError, or their rollout is no longer promoted.
func (d *Deployment) watched(ctx context.Context) (_ context.Context, end func()) {
	ctx, endPromoted := d.whilePromoted(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.guard(ctx, false); ctx.Err() == nil {
			cancel(err)
		}
	}()
	return ctx, func() { cancel(nil); <-done; endPromoted() }
}

// confirm asks every load balancer, at the end, whether the new instances are
// live: the old ones may have taken their time.
func (d *Deployment) confirm(ctx context.Context) error {
	d.step(Step{Name: "confirm", Detail: "the new instances are still live", AtDeadline: "exit code 4: the state of the new instances is unknown"}, lookTimeout)
	within, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := d.guard(within, true)
	if within.Err() == nil || ctx.Err() != nil {
		return err
	}
	var errs []error
	for _, bar := range d.board.bars() {
		if bar.Trouble != "" {
			errs = append(errs, fmt.Errorf("%s unreachable: %s", bar.Name, bar.Trouble))
		}
	}
	return errors.Join(errors.New("state of the new instances unknown"), errors.Join(errs...))
}

// explainLost says of each lost instance what Consul and the load balancers say.
func (d *Deployment) explainLost(ctx context.Context, gone []Key) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	listing, err := d.list(ctx, lookTimeout/2)
	if err != nil {
		d.problem(Problem{Reason: err.Error()})
	}
	listed := map[Key]Instance{}
	for _, i := range listing.Instances {
		listed[i.Key()] = i
	}
	views, _ := d.views(ctx)
	for _, key := range gone[:min(len(gone), maxExplained)] {
		i, there := listed[key]
		if !there {
			d.problem(Problem{Instance: key.ID, Reason: Quote(key.ID) + " was live, but is no longer registered in Consul"})
			continue
		}
		d.problem(Problem{Instance: key.ID, Reason: Quote(key.ID) + " was live, but is no longer"})
		d.explainInstance(i, views, 0)
	}
}

func quoteIDs(keys []Key) string {
	ids := make([]string, 0, len(keys))
	for _, k := range keys[:min(len(keys), maxExplained)] {
		ids = append(ids, Quote(k.ID))
	}
	return strings.Join(ids, ", ")
}

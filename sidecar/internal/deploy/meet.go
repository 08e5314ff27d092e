package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// meetTimeout is how long load balancers that can't be asked, or are not
// registered, are waited for before anything is started: a sidecar, or Consul,
// may just have been restarted.
const meetTimeout = 5 * time.Second

// checkLoadBalancers finds the load balancers and asks each once. One that can't be asked
// ends the deployment before it has begun.
func (d *Deployment) checkLoadBalancers(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	var few error
	for tries := 0; ; tries++ {
		err := d.checkAllReachable(within)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case few != nil && within.Err() != nil:
			return few // those that there are have answered before
		case errors.Is(err, errUnasked):
			return err
		}
		few = err
		pause(within, tries)
	}
}

// errUnasked says that a load balancer can't be asked, for as long as that was
// tried.
var errUnasked = errors.New("unreachable")

// checkAllReachable asks all load balancers that are registered now. Until there are
// enough the error is not errUnasked.
func (d *Deployment) checkAllReachable(ctx context.Context) error {
	if err := d.refresh(ctx); err != nil {
		return fmt.Errorf("find load balancers: %w", err)
	}
	names := d.board.names()
	errs := make([]error, len(names))
	each(names, func(i int, name string) { errs[i] = d.checkReachable(ctx, name) })
	if err := errors.Join(errs...); err != nil {
		return err
	}
	switch found := len(d.board.names()); {
	case found == 0:
		return fmt.Errorf("no load balancer that routes %s is registered in Consul", d.Service)
	case found < d.LoadBalancers:
		return fmt.Errorf("%s registered in Consul for %s (%s), want %d",
			balancers(d.board.bars()), d.Service, strings.Join(d.board.names(), ", "), d.LoadBalancers)
	}
	return nil
}

// checkReachable asks a load balancer until it answers.
func (d *Deployment) checkReachable(ctx context.Context, name string) error {
	var said error // the last time that it was not the time which was over
	for tries := 0; ; tries++ {
		b := d.board.balancer(name)
		_, err := d.Balancers.Live(ctx, b, d.Version, 0, 0)
		if ctx.Err() == nil || said == nil {
			said = err
		}
		switch {
		case errors.Is(err, ErrNotRouted):
			d.board.unrouted(name)
			return nil
		case err == nil:
			return nil
		case !pause(ctx, tries):
			where := ""
			if b.URL != "" {
				where = " at " + b.URL
			}
			return fmt.Errorf("the load balancer %s%s %w: %w", name, where, errUnasked, said)
		}
		_ = d.refresh(ctx) // known ones are asked again
	}
}

// refresh reads the load balancers again: there may be more of them, or one may
// have come back elsewhere. One that is gone from the list is kept: its HAProxy
// keeps running without its sidecar.
func (d *Deployment) refresh(ctx context.Context) error {
	list, err := d.Catalog.Balancers(ctx)
	if err != nil {
		return err
	}
	for _, b := range once(list) {
		if !slices.Contains(d.Without, b.Name) {
			d.board.put(b)
		}
	}
	return nil
}

// once returns each name once. A sidecar that was killed and came back on another
// machine is listed twice for a minute, and its check tells which is which.
func once(list []Balancer) []Balancer {
	byName := map[string][]Balancer{}
	for _, b := range list {
		byName[b.Name] = append(byName[b.Name], b)
	}
	var out []Balancer
	for _, same := range byName {
		slices.SortFunc(same, func(x, y Balancer) int {
			switch {
			case x.Passing == y.Passing:
				return cmp.Compare(x.URL, y.URL)
			case x.Passing:
				return -1
			}
			return 1
		})
		b := same[0]
		if len(same) > 1 && same[1].Passing {
			b.Problem = fmt.Sprintf("two sidecars have this name, at %s and %s: a load balancer's name must be its own", b.URL, same[1].URL)
		}
		out = append(out, b)
	}
	return out
}

// each calls do for every name, all at once, and waits for them.
func each(names []string, do func(i int, name string)) {
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { do(i, name) })
	}
	all.Wait()
}

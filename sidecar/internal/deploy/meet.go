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

// meetTimeout is for how long a load balancer that can't be asked is tried
// before anything is started: a sidecar may just be restarted.
const meetTimeout = 5 * time.Second

// meet finds the load balancers and asks each once. One that can't be asked
// ends the deployment before it has begun.
func (d *Deployment) meet(ctx context.Context) error {
	if err := d.refresh(ctx); err != nil {
		return fmt.Errorf("the load balancers cannot be found: %w", err)
	}
	names := d.board.names()
	within, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	errs := make([]error, len(names))
	each(names, func(i int, name string) { errs[i] = d.greet(within, name) })
	if err := errors.Join(errs...); err != nil || ctx.Err() != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	switch found := len(d.board.names()); {
	case found == 0:
		return fmt.Errorf("no load balancer that routes %s is registered in Consul, so that nobody could tell when it is live", d.Service)
	case found < d.Order.LoadBalancers:
		return fmt.Errorf("%d load balancers that route %s are registered in Consul (%s), want %d",
			found, d.Service, strings.Join(d.board.names(), ", "), d.Order.LoadBalancers)
	}
	return nil
}

// greet asks a load balancer until it answers.
func (d *Deployment) greet(ctx context.Context, name string) error {
	for tries := 0; ; tries++ {
		b := d.board.balancer(name)
		_, err := d.Balancers.Live(ctx, b, d.Version, 0, 0)
		switch {
		case errors.Is(err, ErrNotRouted):
			d.board.unrouted(name)
			return nil
		case err == nil:
			return nil
		case !pause(ctx, tries):
			return fmt.Errorf("the load balancer %s at %s cannot be asked: %w", name, b.URL, err)
		}
		_ = d.refresh(ctx) // what is known is asked again
	}
}

// refresh reads the load balancers again: there may be more of them, or one may
// have come back elsewhere. One that is gone from the list is kept: its HAProxy
// serves on without its sidecar.
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

// once gives each name once. A sidecar that was killed and came back on another
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

package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// comparison is one reading of all that HAProxy runs, though nothing seems to have
// changed. It is made beside the loop: a large fleet takes a while to read.
type comparison struct {
	isWhole bool // else it only tells who serves, and whether in maintenance
	asked   []string
	began   uint64 // observedCache.clock
	at      time.Time
	took    time.Duration

	observed plan.Observed
	err      error
}

const (
	// comparedShare is how many times as long as it took nothing is compared: so it
	// takes 1 % of a processor.
	comparedShare = 99
	// comparedMax bounds that: what an operator has changed by hand is corrected then.
	comparedMax = 30 * time.Second
)

// compare begins a comparison. isBeside is false if the loop is to read everything
// now.
func (a *Agent) compare(ctx context.Context) (isBeside bool) {
	k := &a.known
	a.countOldWorkers(ctx)
	switch {
	case k.stale == nil || !k.observed.Running:
		a.files.unsure = true
		k.forget()
		return false
	case a.isComparing:
		return true
	}
	a.isComparing = true
	c := &comparison{isWhole: !time.Now().Before(a.compareWhole), asked: always(a.set), began: k.clock}
	if c.isWhole {
		c.asked = k.backends(a.set)
	}
	go func() {
		c.at = time.Now()
		c.observed, c.err = a.haproxy.Compare(ctx, c.asked)
		c.took = time.Since(c.at)
		a.compared <- c
	}()
	return true
}

// untilCompared is how long it takes until something is compared again.
func (a *Agent) untilCompared() time.Duration {
	if wait := time.Until(a.compareWhole); wait > 0 {
		return min(a.set.Reconcile, wait)
	}
	return a.set.Reconcile
}

// noteCompared takes what a comparison has read, except for the backends that the loop
// has read or changed since it began. It reports whether a pass is due.
func (a *Agent) noteCompared(c *comparison) (isNews bool) {
	k := &a.known
	a.isComparing = false
	if c.isWhole {
		a.files.unsure = true
		a.compareWhole = time.Now().Add(max(a.set.Reconcile, min(comparedShare*c.took, comparedMax)))
	}
	was := k.observed.Maintenance
	switch {
	case k.forgotten > c.began || !k.observed.Running:
	case c.err != nil && k.lastRead <= c.began && !errors.Is(c.err, plan.ErrNotRunning):
		k.failed = c.err // the loop need not wait for the same; one that did not run then may do so now
		k.forget()
	case c.err != nil, c.observed.PID != k.observed.PID, c.observed.Marker != k.observed.Marker,
		c.observed.Caps != k.observed.Caps: // a container that was replaced may have the same PID
		k.forget()
	default:
		for _, backend := range k.compared(c) {
			a.remake(backend)
		}
		return c.isWhole || k.observed.Maintenance != was
	}
	return true
}

// compared takes what was read, and gives the backends whose servers have other
// sessions, or are otherwise.
func (k *observedCache) compared(c *comparison) (changed []string) {
	o := c.observed.WithMaintenance()
	if k.touched[plan.RotationBackend] <= c.began {
		k.observed.Maintenance = o.Maintenance
	}
	for _, name := range c.asked {
		if name == plan.RotationBackend || k.touched[name] > c.began {
			continue
		}
		was, existed := k.observed.Backends[name]
		is, exists := o.Backends[name]
		if existed != exists || was.Unpublished != is.Unpublished || !slices.EqualFunc(was.Servers, is.Servers, isSameServer) {
			k.fresh[name] = true
		}
		if k.takeBackend(name, o, c.at) || !slices.EqualFunc(was.Servers, is.Servers, looksSame) {
			changed = append(changed, name)
		}
		delete(k.stale, name)
	}
	return changed
}

// isSameServer reports whether a settled decision is the same for both.
func isSameServer(x, y plan.Server) bool {
	x.SinceChange, y.SinceChange, x.Sessions, y.Sessions = 0, 0, 0, 0
	return x == y
}

// looksSame reports whether the state that is published is the same for both, apart from since
// when it is.
func looksSame(x, y plan.Server) bool {
	return isSameServer(x, y) && x.Sessions == y.Sessions && phase(x) == phase(y)
}

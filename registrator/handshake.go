package registrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// handshake asks every load balancer that may route to the service whether
// a session is on the program still, all at once, and waits until each has
// drained it. Its goroutines have ended when await returns.
type handshake struct {
	boundedWait // what a load balancer gets that can't be asked

	asked       *agentCheck // says that the program leaves where a sidecar may not
	service, id string
	sidecars    Sidecars
	health      *api.Health
	dial        dialer
	tell        func(Drain) // may be nil
	log         hclog.Logger
}

func (h *handshake) await(ctx context.Context, mark string) error {
	began := time.Now()
	c := &catalog{health: h.health, service: h.service, id: h.id, mark: mark, sidecars: h.sidecars.Service}
	c.others = others{names: h.sidecars.Datacenters, wait: h.wait / 2, heard: map[string][]sidecar{}}
	done := h.asked.leaveUnless(h.wait)
	first, err := h.look(ctx, c)
	done()
	if err != nil || len(first.sidecars) == 0 {
		h.asked.leave()
	}
	switch {
	case err != nil && ctx.Err() == nil:
		h.log.Warn("Consul query for sidecars failed, waiting leave_wait", "wait", h.wait, "error", err)
		return h.rest(ctx, began)
	case err != nil:
		return h.rest(ctx, began)
	}
	if first.filtered {
		h.log.Warn("sidecar list filtered by ACLs, token needs service:read and node:read", "sidecars", h.sidecars.Service)
	}
	if len(first.sidecars) == 0 {
		h.log.Info("no sidecar to ask, waiting leave_wait", "wait", h.wait, "sidecars", h.sidecars.Service)
		return h.rest(ctx, began)
	}
	return h.ask(ctx, began, c, first)
}

// look waits until the mark shows in Consul, and reads which sidecars there
// are. It tries for the bounded wait.
func (h *handshake) look(ctx context.Context, c *catalog) (v view, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.wait, fmt.Errorf("tried for %v", h.wait))
	defer cancel()
	if err := retry(ctx, c.shows, nil); err != nil {
		return v, err
	}
	return v, retry(ctx, func(ctx context.Context) (err error) {
		v, err = c.look(ctx)
		return err
	}, nil)
}

// ask is the handshake itself, with those that are known by the first look and
// those that come.
func (h *handshake) ask(ctx context.Context, began time.Time, c *catalog, first view) error {
	a := newAsker(h.sidecars, h.wait*9/10, h.dial) // so that it, and not the wait, says what was in vain
	defer a.client.Close()
	asking, end := context.WithCancel(ctx)
	r := &round{handshake: h, asker: a, began: began, talks: make(map[string]*poller), settled: make(chan Drain, maxSidecars)}
	defer r.group.Wait()
	defer end()
	r.learn(asking, first)
	views := make(chan view)
	r.group.Go(func() { c.watch(asking, min(h.wait/3, lookPeriod), first, views, h.log) })
	for r.open > 0 {
		select {
		case v := <-views:
			if v.superseded {
				// What is said of the ID is said of the other now.
				h.log.Warn("ID taken by another process, waiting leave_wait", "wait", h.wait)
				h.asked.leave()
				return h.rest(ctx, time.Now())
			}
			r.learn(asking, v)
		case l := <-r.settled:
			r.settle(l)
		}
	}
	return r.result(ctx)
}

// round is one handshake. It belongs to the goroutine of Leave.
type round struct {
	*handshake
	asker *asker
	began time.Time

	talks   map[string]*poller // by the sidecar's key
	open    int                // of them, not settled
	settled chan Drain         // has room for all
	group   sync.WaitGroup
	all     []Drain // that are settled
	beyond  bool    // there are more than are asked
}

// learn takes what Consul says: who is new is asked too, and who has moved is
// asked where it is now. Who is gone is asked on: its HAProxy serves without it,
// and it may be on its way back.
func (r *round) learn(ctx context.Context, v view) {
	for _, s := range v.sidecars {
		if t, known := r.talks[s.key]; known {
			t.learn(ctx, s, v.index)
			continue
		}
		if len(r.talks) == maxSidecars {
			if !r.beyond {
				r.log.Warn("too many sidecars, waiting leave_timeout", "asked", maxSidecars, "registered", len(v.sidecars), "sidecars", r.sidecars.Service)
			}
			r.beyond = true
			continue
		}
		t := r.newTalk(ctx, s, v.index)
		r.talks[s.key] = t
		r.open++
		r.group.Go(func() { r.settled <- t.run(ctx) })
	}
}

// settle notes that one has drained, or will not be waited for any more.
func (r *round) settle(l Drain) {
	r.open--
	r.all = append(r.all, l)
	switch l.Outcome {
	case OutcomeWaited:
		r.log.Warn("load balancer unreachable, waited leave_wait", "lb", l.Balancer, "at", l.Address, "ms", l.Took.Milliseconds(), "error", l.Reason)
	case OutcomeDrained, OutcomeNotRouted:
		r.log.Info("drained on load balancer", "lb", l.Balancer, "at", l.Address, "ms", l.Took.Milliseconds(), "sessions_seen", l.MaxSessions, "outcome", l.Outcome)
	case OutcomeCut: // the error says it
	}
	if r.tell != nil {
		r.tell(l)
	}
}

// twice returns the name of a load balancer for which more than one has answered:
// which of them is beside its HAProxy cannot be known.
func (r *round) twice() (name string, found bool) {
	answered := make(map[string]bool)
	for _, l := range r.all {
		if l.Outcome == OutcomeWaited {
			continue // a registration that is left of an earlier place
		}
		if answered[l.Balancer] {
			return l.Balancer, true
		}
		answered[l.Balancer] = true
	}
	return "", false
}

// result says in one line how long each took, and gives those that have not
// drained it as an error.
func (r *round) result(ctx context.Context) error {
	var unproven error
	if name, twice := r.twice(); twice && !r.beyond {
		r.log.Warn("several sidecars answer for one load balancer, waiting leave_timeout: give each a name of its own", "lb", name)
		unproven = fmt.Errorf("several sidecars answer for load balancer %s", short(name))
	}
	if r.beyond {
		unproven = fmt.Errorf("more than %d sidecars are registered as %q", maxSidecars, r.sidecars.Service)
	}
	if unproven != nil {
		// The answers prove nothing, so the program keeps serving while it may.
		<-ctx.Done()
	}
	slices.SortFunc(r.all, func(a, b Drain) int { return cmp.Compare(a.Balancer, b.Balancer) })
	count := make(map[Outcome]int)
	var each, cut []string
	for _, l := range r.all {
		count[l.Outcome]++
		each = append(each, l.brief())
		if l.Outcome == OutcomeCut {
			cut = append(cut, fmt.Sprintf("%s (%d sessions)", l.Balancer, l.Sessions))
		}
	}
	r.log.Info("drain finished", "ms", time.Since(r.began).Milliseconds(),
		"drained", count[OutcomeDrained], "not_routed", count[OutcomeNotRouted], "waited", count[OutcomeWaited], "cut", count[OutcomeCut],
		"each", strings.Join(each, ", "))
	switch {
	case unproven != nil:
		return fmt.Errorf("%w: %w", unproven, context.Cause(ctx))
	case len(cut) == 0:
		return nil
	}
	return fmt.Errorf("not drained on %s: %w", strings.Join(cut, ", "), context.Cause(ctx))
}

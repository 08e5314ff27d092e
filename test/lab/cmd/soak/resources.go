package main

import (
	"context"
	"slices"
	"sync"
)

// resources is what faults take while they last, so that no two of them meet
// in a way in which no request could be saved. The first to come is served
// first: one that waits for much is not passed by those that want a part of it.
type resources struct {
	mu      sync.Mutex
	free    map[string]int
	waiting []*claim
}

// claim is one that waits.
type claim struct {
	names []string
	taken chan struct{} // closed once all of them are taken
}

func newResources(free map[string]int) *resources { return &resources{free: free} }

// hold is what one fault has taken.
type hold struct {
	from  *resources
	names []string
}

// take waits until all of these are free, and takes them at once.
func (r *resources) take(ctx context.Context, names ...string) (*hold, error) {
	h := &hold{from: r}
	return h, h.wait(ctx, names, false)
}

// more takes further ones, before all who wait: some may wait for what is held
// already. Who holds any of them must get on without taking more itself, or the
// two would wait for each other.
func (h *hold) more(ctx context.Context, names ...string) error { return h.wait(ctx, names, true) }

func (h *hold) wait(ctx context.Context, names []string, first bool) error {
	c := &claim{names: names, taken: make(chan struct{})}
	h.from.enqueue(c, first)
	select {
	case <-c.taken:
	case <-ctx.Done():
		if h.from.withdraw(c) {
			return context.Cause(ctx)
		}
	}
	h.names = append(h.names, names...)
	return nil
}

func (r *resources) enqueue(c *claim, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first {
		r.waiting = slices.Insert(r.waiting, 0, c)
	} else {
		r.waiting = append(r.waiting, c)
	}
	r.serve()
}

// withdraw reports whether it was in time.
func (r *resources) withdraw(c *claim) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiting, c)
	if i < 0 {
		return false
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	r.serve()
	return true
}

// serve gives what is free to those who wait. r.mu is held.
func (r *resources) serve() {
	wanted := map[string]bool{} // by those before
	r.waiting = slices.DeleteFunc(r.waiting, func(c *claim) bool {
		for _, n := range c.names {
			if r.free[n] < 1 || wanted[n] {
				for _, n := range c.names {
					wanted[n] = true
				}
				return false
			}
		}
		for _, n := range c.names {
			r.free[n]--
		}
		close(c.taken)
		return true
	})
}

// release returns these back, as far as they are held.
func (h *hold) release(names ...string) {
	h.from.mu.Lock()
	defer h.from.mu.Unlock()
	for _, n := range names {
		if i := slices.Index(h.names, n); i >= 0 {
			h.names = slices.Delete(h.names, i, i+1)
			h.from.free[n]++
		}
	}
	h.from.serve()
}

// end returns all back.
func (h *hold) end() { h.release(slices.Clone(h.names)...) }

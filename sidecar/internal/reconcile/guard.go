package reconcile

import (
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// guardKeeper remembers for plan's guard what HAProxy does not tell.
type guardKeeper struct {
	backends map[string]losses // those that have any
	told     map[string]int    // how many of each are held, as logged
}

// losses are a backend's servers that are lost, by name.
type losses struct {
	lost  map[string]time.Time // since when; those in maint for their health
	holds map[string]hold
}

// hold is one server that stays though Consul calls it lost.
type hold struct {
	since    time.Time
	released bool // by an operator
}

// recall returns the memory as it is now, by backend.
func (g *guardKeeper) recall(now time.Time) map[string]plan.Guard {
	if len(g.backends) == 0 {
		return nil
	}
	out := make(map[string]plan.Guard, len(g.backends))
	for backend, l := range g.backends {
		m := plan.Guard{Lost: make(map[string]time.Duration, len(l.lost)), Holds: make(map[string]plan.Hold, len(l.holds))}
		for server, since := range l.lost {
			m.Lost[server] = now.Sub(since)
		}
		for server, h := range l.holds {
			m.Holds[server] = plan.Hold{For: now.Sub(h.since), Released: h.released}
		}
		out[backend] = m
	}
	return out
}

// remember takes from a plan of a HAProxy that runs what is to be known next
// time. A server that nothing is wrong with any more is forgotten.
func (g *guardKeeper) remember(now time.Time, p plan.Plan) {
	next := map[string]losses{}
	of := func(backend string) losses {
		if _, exists := next[backend]; !exists {
			next[backend] = losses{map[string]time.Time{}, map[string]hold{}}
		}
		return next[backend]
	}
	for _, l := range p.Lost {
		since, known := g.backends[l.Backend].lost[l.Server]
		if !known {
			since = now.Add(-l.Ago)
		}
		of(l.Backend).lost[l.Server] = since
	}
	keep := func(backend, server string) bool {
		h, known := g.backends[backend].holds[server]
		if known {
			of(backend).holds[server] = h
		}
		return known
	}
	for _, s := range p.Steps { // it may fail, and is to be released all the same
		keep(s.Backend, s.Server)
	}
	for _, w := range p.Waiting {
		if !keep(w.Backend, w.Server) && w.For == plan.ForGuard {
			of(w.Backend).holds[w.Server] = hold{since: now}
		}
	}
	g.backends = next
}

// release frees what is held of a backend, and gives the servers.
func (g *guardKeeper) release(backend string) []string {
	holds := g.backends[backend].holds
	for server, h := range holds {
		h.released = true
		holds[server] = h
	}
	return append([]string{}, slices.Sorted(maps.Keys(holds))...)
}

// held returns the servers that are held of a backend, sorted, and since when
// the first is. One that was released and is on its way out is none.
func (g *guardKeeper) held(backend string) (servers []string, since time.Time) {
	servers = []string{}
	for server, h := range g.backends[backend].holds {
		if h.released {
			continue
		}
		servers = append(servers, server)
		if since.IsZero() || h.since.Before(since) {
			since = h.since
		}
	}
	slices.Sort(servers)
	return servers, since
}

// next is how long it takes until a hold is over by its time.
func (g *guardKeeper) next(now time.Time, services []plan.Service) time.Duration {
	again := time.Hour
	for _, s := range services {
		for _, h := range g.backends[s.Backend].holds {
			for _, over := range []time.Duration{s.Hold, s.HoldDeregistered} {
				if left := h.since.Add(over).Sub(now); left > 0 {
					again = min(again, left)
				}
			}
		}
	}
	return again
}

package haproxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// place is where a session goes: a server's name may mean another address in
// another worker, so only the address tells sessions apart.
type place struct {
	backend string
	addr    netip.AddrPort
}

// freeAddr is the address of a slot that has no instance: plan writes it into the file for
// one that is in maint and has no session. So no worker has a session there, and a master
// that cannot be asked leaves nothing unknown about it.
var freeAddr = netip.MustParseAddrPort("127.0.0.1:9")

// addOldSessions adds what old workers still have on the servers that are not
// ready. A server that is ready is not waited for, so it is not counted.
func (c *Client) addOldSessions(ctx context.Context, observed plan.Observed) {
	backends := leavingBackends(observed)
	if c.master == (endpoint{}) || len(backends) == 0 || c.isAlone(observed.PID) {
		return
	}
	count := c.countOldSessions(ctx, observed.PID, backends)
	if count != nil && c.transition(&c.countsBroken, count.err != nil) {
		if count.err != nil {
			c.log.Warn("session count of old workers failed, treating servers as busy", "error", count.err)
		} else {
			c.log.Info("session count of old workers recovered")
		}
	}
	for _, name := range backends {
		for i := range observed.Backends[name].Servers {
			s := &observed.Backends[name].Servers[i]
			if s.Admin == plan.Ready || s.Addr == freeAddr {
				continue
			}
			if count != nil {
				s.Sessions += count.sessions[place{name, s.Addr}]
			}
			if count == nil || count.err != nil {
				s.Uncounted = count == nil && s.Sessions == 0
				s.Sessions = max(s.Sessions, 1)
			}
		}
	}
}

// isAlone reports whether the worker that serves was seen to have no old one. None comes
// while it serves: it would be old itself. So the master need not be asked. It does not
// answer while it reads a large file for a reload, and a server that leaves meanwhile
// would wait for the end of that.
func (c *Client) isAlone(worker int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alone != worker {
		c.alone = 0 // its PID may be another worker's one day
	}
	return c.alone != 0
}

// sessionCount is one count of the sessions in old workers. The master may not
// answer for seconds, and an old worker may hang, so it runs beside its callers.
type sessionCount struct {
	worker   int // the one that serves, by PID
	backends []string
	done     chan struct{} // closed when the rest is there

	ended    time.Time
	sessions map[place]int
	err      error
}

const (
	// countWait is how long Observe waits for a count. Most take a millisecond.
	countWait = 20 * time.Millisecond
	// countAge is how old one may be that no call has taken.
	countAge = 2 * time.Second
)

// countOldSessions returns a count for these backends, or nil if it is not there yet:
// a later call gets it.
func (c *Client) countOldSessions(ctx context.Context, worker int, backends []string) *sessionCount {
	wait := time.NewTimer(c.countWait)
	defer wait.Stop()
	for {
		count := c.count(ctx, worker, backends)
		select {
		case <-count.done:
		case <-wait.C:
			return nil
		case <-ctx.Done():
			return nil
		}
		c.mu.Lock()
		if c.counting == count {
			c.counting = nil
		}
		c.mu.Unlock()
		isMissing := func(name string) bool { return !slices.Contains(count.backends, name) }
		if count.worker == worker && time.Since(count.ended) < countAge && !slices.ContainsFunc(backends, isMissing) {
			return count
		}
	}
}

// count returns the count that is under way, or begins one.
func (c *Client) count(ctx context.Context, worker int, backends []string) *sessionCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counting != nil {
		return c.counting
	}
	count := &sessionCount{worker: worker, backends: backends, done: make(chan struct{})}
	c.counting = count
	go func() {
		defer close(count.done)
		count.sessions, count.err = c.oldSessions(ctx, worker, backends)
		count.ended = time.Now()
	}()
	return count
}

// leavingBackends lists the backends that have a server that is not ready.
func leavingBackends(observed plan.Observed) []string {
	var names []string
	for name, backend := range observed.Backends {
		if slices.ContainsFunc(backend.Servers, func(s plan.Server) bool { return s.Admin != plan.Ready }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// maxAsked is how many old workers are asked at once.
const maxAsked = 4

// oldSessions counts the sessions of all old workers. With an error the counts
// are of those that could be read.
func (c *Client) oldSessions(ctx context.Context, current int, backends []string) (map[place]int, error) {
	workers, err := c.oldWorkers(ctx, current)
	if err != nil {
		return nil, err
	}
	if len(workers) == 0 {
		c.mu.Lock()
		c.alone = current
		c.mu.Unlock()
	}
	// One deadline for all of them: several that hang are no worse than one.
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(maxAsked)
	counts, errs := make([]map[place]int, len(workers)), make([]error, len(workers))
	for i, pid := range workers {
		group.Go(func() error {
			counts[i], errs[i] = c.sessionsIn(ctx, pid, backends)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	total := map[place]int{}
	for _, count := range counts {
		for at, n := range count {
			total[at] += n
		}
	}
	return total, errors.Join(errs...)
}

// sessionsIn counts one old worker's sessions. One that has ended meanwhile
// has none.
func (c *Client) sessionsIn(ctx context.Context, pid int, backends []string) (map[place]int, error) {
	view, err := readWorker(ctx, c.oldWorker(pid), backends, maxCommandsOld)
	if errors.Is(err, errNoWorker) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	count := map[place]int{}
	for name, servers := range view.backends {
		for _, s := range servers {
			count[place{name, s.addr}] += s.sessions + s.queued
		}
	}
	return count, nil
}

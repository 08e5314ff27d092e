package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/test/lab"
)

// subject is what carries changes from Consul to a proxy: the sidecar, the
// floor, or a peer.
type subject struct {
	name    string
	targets []instance
	change  func(context.Context, instance, int) error // writes a value into Consul
	next    func(was int) int                          // the value after a value
	look    func(servers []string) ([]int, error)      // what the proxy has

	mu      sync.Mutex
	values  []int           // of each target, as last sent
	pending map[int]pending // by target; not seen yet
	took    []time.Duration
}

// pending is a change that the proxy does not show yet.
type pending struct {
	value int
	sent  time.Time
}

const (
	pollPause = 200 * time.Microsecond
	// lostAfter is when a change counts as lost.
	lostAfter = 20 * time.Second
)

// measure sends changes, one in each interval, and returns how long each took,
// from the request to Consul until the proxy shows it. Targets take turns; one
// whose last change does not show yet is waited for, and nothing is caught up.
func (s *subject) measure(ctx context.Context, count int, every time.Duration) ([]time.Duration, error) {
	s.mu.Lock()
	s.pending, s.took = map[int]pending{}, nil
	if s.values == nil {
		s.values = make([]int, len(s.targets))
		for i := range s.values {
			s.values[i] = 1
		}
	}
	s.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	sent := make(chan struct{})
	group.Go(func() error {
		defer close(sent)
		return s.send(ctx, count, every)
	})
	group.Go(func() error { return s.watch(ctx, sent) })
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.took, nil
}

func (s *subject) send(ctx context.Context, count int, every time.Duration) error {
	for k := range count {
		began := time.Now()
		target := k % len(s.targets)
		for !s.take(target) {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if err := s.change(ctx, s.targets[target], s.values[target]); err != nil {
			return err
		}
		if err := pause(ctx, every-time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// take gives the target its next value and starts its clock, unless its last
// change does not show yet.
func (s *subject) take(target int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.pending[target]; busy {
		return false
	}
	s.values[target] = s.next(s.values[target])
	s.pending[target] = pending{s.values[target], time.Now()}
	return true
}

// watch polls the proxy until everything that was sent shows.
func (s *subject) watch(ctx context.Context, sent <-chan struct{}) error {
	// Go's timers are no finer than a millisecond while all else waits.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		targets, servers := s.waiting()
		if len(targets) == 0 {
			select {
			case <-sent:
				if targets, _ = s.waiting(); len(targets) == 0 {
					return nil
				}
			default:
			}
		} else {
			values, err := s.look(servers)
			if err != nil {
				return err
			}
			if err := s.seen(targets, values); err != nil {
				return err
			}
		}
		t := unix.NsecToTimespec(int64(pollPause))
		_ = unix.Nanosleep(&t, nil) // a signal only makes it shorter
	}
	return context.Cause(ctx)
}

func (s *subject) waiting() (targets []int, servers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for target := range s.pending {
		targets, servers = append(targets, target), append(servers, s.targets[target].server)
	}
	return targets, servers
}

func (s *subject) seen(targets, values []int) error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, target := range targets {
		p := s.pending[target]
		switch took := now.Sub(p.sent); {
		case values[i] == p.value:
			s.took = append(s.took, took)
			delete(s.pending, target)
		case took > lostAfter:
			return fmt.Errorf("change lost: %s has %d, not %d, after %s", s.targets[target].server, values[i], p.value, lostAfter)
		}
	}
	return nil
}

// unseen returns the changes that do not show yet, as server and value.
func (s *subject) unseen() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int{}
	for target, p := range s.pending {
		all[s.targets[target].server] = p.value
	}
	return all
}

// nextWeight runs through the weights that HAProxy takes, without 0.
func nextWeight(was int) int { return was%250 + 1 }

// nextStatus is passing after critical, and critical after passing.
func nextStatus(was int) int { return 1 - was }

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return lab.Pause(ctx, d)
}

package main

import (
	"context"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// watch tells of requests that fail as soon as a client says so, between the
// faults, and counts reloads by the workers' pids, whatever the sidecars say.
func (s *site) watch(ctx context.Context) {
	ctx, s.stop = context.WithCancel(ctx)
	for _, lb := range s.lbs {
		s.watching.Go(func() { lb.countReloads(ctx) })
	}
	for _, c := range s.client {
		s.watching.Go(func() { s.watchClient(ctx, c) })
	}
}

func (lb *balancer) countReloads(ctx context.Context) {
	last := 0
	every(ctx, 100*time.Millisecond, func() {
		pid, err := lb.WorkerPID(ctx)
		if err != nil || pid == last {
			return
		}
		if last != 0 {
			lb.reloads.Add(1)
		}
		last = pid
	})
}

func (s *site) watchClient(ctx context.Context, c *lab.Client) {
	var failed uint64
	every(ctx, 500*time.Millisecond, func() {
		if now := c.Progress().Failed; now > failed {
			s.logf("FAILED: %d requests of %s, %d in all", now-failed, c.Name, now)
			failed = now
		}
	})
}

// every calls f again and again until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

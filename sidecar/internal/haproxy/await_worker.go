package haproxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Times of waiting for a new worker.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 100 * time.Millisecond

	// otherMarkerGrace is how long a new worker may run something else than
	// what is wanted: someone else's reload may have come just before ours.
	otherMarkerGrace = 2 * time.Second

	// goneGrace is how long no worker at all may answer. A restart takes less;
	// a master of 3.2 or 3.4 that crashed over its file does not come back by
	// itself.
	goneGrace = 5 * time.Second
)

// awaited is what a reload is to bring.
type awaited struct {
	before workerIdentity
	want   plan.Marker
	// failed tells early that no worker will come, where there is a way to know.
	failed func() error
}

// awaitWorker polls until a new worker answers and runs what is wanted.
func (c *Client) awaitWorker(ctx context.Context, a awaited) error {
	var other, gone stopwatch
	var lastErr error
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		now, err := c.identity(ctx)
		fresh := err == nil && now.isNewerThan(a.before)
		if fresh && (a.want == plan.Marker{} || now.marker == a.want) {
			c.learn(now.info)
			return nil
		}
		if other.runs(fresh) > otherMarkerGrace {
			return otherConfiguration(now, a.want)
		}
		if gone.runs(errors.Is(err, plan.ErrNotRunning)) > goneGrace {
			return &ReloadError{Reason: "HAProxy exited", Err: err}
		}
		if err == nil && !fresh {
			if err := a.failed(); err != nil {
				return err
			}
		}
		if err != nil && ctx.Err() == nil {
			lastErr = err
		}
		select {
		case <-ctx.Done():
			reason := fmt.Sprintf("no new worker after worker %d", a.before.pid)
			return &ReloadError{Reason: reason, Err: errors.Join(ctx.Err(), lastErr)}
		case <-time.After(poll):
		}
	}
}

func otherConfiguration(now workerIdentity, want plan.Marker) error {
	runs := "a configuration that is not ours"
	if now.marker != (plan.Marker{}) {
		runs = now.marker.String()
	}
	return &ReloadError{otherConfiguration: true, Reason: fmt.Sprintf("new worker %d runs %s, expected %s: does HAProxy load the haproxy.cfg that the sidecar writes?",
		now.pid, runs, want)}
}

// stopwatch measures for how long something has been so without a break.
type stopwatch struct{ since time.Time }

func (s *stopwatch) runs(so bool) time.Duration {
	switch {
	case !so:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
	default:
		return time.Since(s.since)
	}
	return 0
}

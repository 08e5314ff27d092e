package load

import (
	"context"
	"iter"
	"time"
)

// tick is one request that is due: its number, from 0, and its time.
type tick struct {
	number int
	due    time.Time
}

// schedule returns each request when it is due, until the duration is over (0:
// never) or the context is done. Should the caller be late, the requests that
// have come due meanwhile follow without a pause, each with its own time.
//
// Go's timers are about a millisecond late in a process that is idle
// (runtime: the poller sleeps in whole milliseconds). That counts as latency
// here: the client can't know better, and it is the same in every run.
func schedule(ctx context.Context, start time.Time, rate float64, duration time.Duration) iter.Seq[tick] {
	return func(yield func(tick) bool) {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for i := 0; ; i++ {
			offset := time.Duration(float64(i) / rate * float64(time.Second))
			if duration > 0 && offset >= duration {
				return
			}
			due := start.Add(offset)
			if wait := time.Until(due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil || !yield(tick{i, due}) {
				return
			}
		}
	}
}

package consul

import (
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// backoffCeiling is the longest wait after a number of failures in a row, 1 or
// more: 100 ms, doubled by each, and 10 s at most.
func backoffCeiling(failures int) time.Duration {
	shift := min(failures-1, 7) // 100 ms << 7 is above 10 s already
	return min(minBackoff<<shift, maxBackoff)
}

// backoff is the wait after a number of failures in a row, by full jitter
// (Amazon's Architecture Blog, "Exponential Backoff And Jitter"): thousands of
// watches that failed at one moment do not come back at one moment.
func backoff(failures int) time.Duration {
	return 1 + rand.N(backoffCeiling(failures))
}

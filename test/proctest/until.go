package proctest

import (
	"testing"
	"time"
)

// Until waits until a fact is true, and fails the test if it is not within the
// limit.
func Until(tb testing.TB, limit time.Duration, what string, fact func() bool) {
	tb.Helper()
	over := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !fact() {
		select {
		case <-tick.C:
		case <-over:
			tb.Fatalf("waited %v in vain: %s", limit, what)
		}
	}
}

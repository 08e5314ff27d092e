package consul

import (
	"testing"
	"time"
)

func TestBackoffCeiling(t *testing.T) {
	tests := map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 3: 400 * time.Millisecond, 6: 3200 * time.Millisecond,
		7: 6400 * time.Millisecond, 8: 10 * time.Second, 9: 10 * time.Second, 1 << 30: 10 * time.Second,
	}
	for failures, want := range tests {
		if got := backoffCeiling(failures); got != want {
			t.Errorf("ceiling after %d failures = %v, want %v", failures, got, want)
		}
	}
}

func TestBackoffIsSpreadUpToItsCeiling(t *testing.T) {
	var low, high bool
	for range 1000 {
		got := backoff(8)
		if got <= 0 || got > maxBackoff {
			t.Fatalf("backoff = %v, want above 0 and at most %v", got, maxBackoff)
		}
		low = low || got < maxBackoff/4
		high = high || got > maxBackoff*3/4
	}
	if !low || !high {
		t.Errorf("1000 waits: below a quarter %v, above three quarters %v, want both", low, high)
	}
}

package agent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Everything is compared as often as is set on a small fleet. Where it takes long,
// it is compared less often, so that it costs one percent of a processor.
func TestCompare_TakesLong_IsDoneLessOften(t *testing.T) {
	for _, tt := range []struct {
		name       string
		takes      time.Duration
		least, max int // comparisons in 10 minutes
	}{
		{"1 ms", time.Millisecond, 295, 300},
		{"100 ms", 100 * time.Millisecond, 55, 60},
		{"a minute", time.Minute, 5, 7},
	} {
		t.Run(tt.name, inTime(func(t *testing.T) {
			b := serving(t, true, many(3)...)
			b.settings.Reconcile = 2 * time.Second
			b.agent.Reconfigure(b.settings)
			b.passes(time.Minute)
			b.haproxy.with(func() { b.haproxy.observeTakes = tt.takes })
			b.passes(2 * time.Minute)
			before := len(b.haproxy.observations())
			b.passes(10 * time.Minute)
			if got := len(b.haproxy.observations()) - before; got < tt.least || got > tt.max {
				t.Errorf("got %d comparisons in ten minutes, want %d to %d", got, tt.least, tt.max)
			}
		}))
	}
}

// What somebody changes by hand on a small fleet is corrected within two seconds.
func TestCompare_Drift_IsCorrectedWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.settings.Reconcile = 2 * time.Second
		b.agent.Reconfigure(b.settings)
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.observeTakes = 2 * time.Millisecond })
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.server("api_nodes", "api-2").Admin = plan.Maint })
		b.passes(2*time.Second + 10*time.Millisecond)
		b.haproxy.with(func() {
			if got := b.haproxy.server("api_nodes", "api-2").Admin; got != plan.Ready {
				t.Errorf("after two seconds the server is in %s, want ready", got)
			}
		})
	})
}

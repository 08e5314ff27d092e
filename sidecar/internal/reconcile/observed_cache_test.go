package reconcile

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// What a HAProxy has refused, or taken, says nothing of another program or configuration.
func TestObservedCache_AnotherProgramOrConfiguration_WhatWasRefusedIsForgotten(t *testing.T) {
	before := plan.Observed{Running: true, PID: 100, Marker: plan.Marker{Settings: "a"}, Caps: plan.Capabilities{Version: "3.2.1"}}
	for name, c := range map[string]struct {
		change func(*plan.Observed)
		isKept bool
	}{
		"the same":              {func(*plan.Observed) {}, true},
		"another process":       {func(o *plan.Observed) { o.PID = 101 }, true},
		"another program":       {func(o *plan.Observed) { o.Caps.Version = "3.2.2" }, false},
		"another configuration": {func(o *plan.Observed) { o.Marker.Settings = "b" }, false},
	} {
		observed := func(change func(*plan.Observed)) plan.Observed {
			o := before
			o.Backends = map[string]plan.Backend{"api": {}}
			change(&o)
			return o
		}
		k := newObservedCache()
		k.take(observed(func(*plan.Observed) {}), []string{"api"}, time.Now())
		k.refused("api")
		k.refusedWeight("api")
		k.adds["api"] = true
		k.take(observed(c.change), []string{"api"}, time.Now())
		if b := k.observed.Backends["api"]; b.Refuses != c.isKept || b.Adds != c.isKept || b.Static != c.isKept {
			t.Errorf("%s: refuses %t, adds %t, static %t, want %t", name, b.Refuses, b.Adds, b.Static, c.isKept)
		}
	}
}

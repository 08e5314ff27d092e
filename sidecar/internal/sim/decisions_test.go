package sim

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/flight"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// What a decision was made from is kept without a copy. If the loop changed any of it
// later, or a decision depended on anything else, another one would come out.
func TestDecisions_Recorded_AreTheSameAgain(t *testing.T) {
	kept, withSteps := 0, 0
	for seed, left := uint64(9_100_000_000), 40; left > 0; seed++ {
		if !draws(seed, "mass,trouble") {
			continue
		}
		left--
		r, decided := flight.NewRecorder(time.Now), map[plan.Step]bool{}
		history(t, Options{Seed: seed, Events: -1, Decided: func(s plan.Service, o plan.Observed, want catalog.Service, d *plan.Decision) {
			r.Decided(s, o, want, d)
			for _, st := range d.Outcome(o).Steps {
				decided[st] = true
			}
		}, Applied: func(steps []plan.Step) {
			for _, st := range steps {
				if !decided[st] {
					t.Errorf("seed %d: %+v is sent, and in no decision", seed, st)
				}
			}
		}})
		text, err := json.Marshal(flight.NewFile("lb", "test", time.Now(), r.Decisions()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := flight.Read(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range f.Decisions {
			again, err := d.Again()
			if err != nil || !flight.IsSame(d.Outcome, again) {
				t.Fatalf("seed %d, decision %d: got %+v (error: %v), want %+v", seed, i, again, err, d.Outcome)
			}
			if kept++; len(d.Outcome.Steps) > 0 {
				withSteps++
			}
		}
	}
	if withSteps < 500 {
		t.Errorf("%d of %d decisions had steps: too few to tell", withSteps, kept)
	}
}

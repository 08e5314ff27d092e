package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile_HundredDurations_NearestRank(t *testing.T) {
	var all []time.Duration
	for i := 100; i > 0; i-- {
		all = append(all, time.Duration(i)*time.Millisecond)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(all, q); got != want {
			t.Errorf("%g: got %g, want %g", q, got, want)
		}
	}
	if got := quantile(all[:1], 0.99); got != 100 {
		t.Errorf("of one: got %g, want 100", got)
	}
}

func TestSpread_EvenAndOddCount_Median(t *testing.T) {
	if got, want := spread([]float64{9, 1, 2}), (Spread{2, 1, 9}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := spread([]float64{4, 1, 2, 9}), (Spread{3, 1, 9}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A run on a busy machine disturbs sidecar and floor alike, so each is compared
// with the floor of its own run.
func TestFigure_Goal_IsOfTheRatiosRunByRun(t *testing.T) {
	var f Figure
	f.setGoal(1.5, "floor", []float64{2, 20, 2}, []float64{2, 10, 1})
	if f.Met == nil || *f.Met || *f.Ratio != (Spread{2, 1, 2}) {
		t.Errorf("got %v %v, want a median ratio of 2 that misses 1.5", f.Met, f.Ratio)
	}
}

func TestFigure_Shown_TwoDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.123: "0.12", 1: "1.0", 2.34: "2.3", 9.96: "10", 57.6: "58", 1234.5: "1,235", 1_000_001: "1,000,001"} {
		if got := figure(v); got != want {
			t.Errorf("%g: got %s, want %s", v, got, want)
		}
	}
}

func TestSpent_PprofTable_OursWithoutTheOuterOnes(t *testing.T) {
	const top = `File: sidecar
Duration: 20.01s, Total samples = 740ms ( 3.70%)
Showing nodes accounting for 740ms, 100% of 740ms total
      flat  flat%   sum%        cum   cum%
         0     0%     0%      260ms 35.14%  github.com/pointsman/pointsman/sidecar/internal/reconcile.(*Agent).Run
      10ms  1.35%  1.35%      200ms 27.03%  github.com/pointsman/pointsman/sidecar/internal/haproxy.(*Client).Observe (inline)
      90ms 12.16% 13.51%      110ms 14.86%  runtime.mcall
         0     0% 13.51%      100ms 13.51%  runtime.mallocgc
         0     0% 13.51%        5ms  0.50%  github.com/pointsman/pointsman/sidecar/internal/plan.Compute
`
	want := []Spent{{"haproxy.(*Client).Observe", 27.03}, {"runtime.mcall", 14.86}}
	if diff := cmp.Diff(spent(top), want); diff != "" {
		t.Errorf("got and want differ (-got +want):\n%s", diff)
	}
}

func TestChoose_Names_TableOrderAndErrors(t *testing.T) {
	got, err := choose(rows[2].name + "," + rows[0].name)
	if err != nil || len(got) != 2 || got[0].name != rows[0].name {
		t.Errorf("got %v %v, want two rows in the table's order", got, err)
	}
	if _, err := choose("small-30ms,nothing"); err == nil || !strings.Contains(err.Error(), `no row "nothing"`) {
		t.Errorf("got %v, want that there is no such row", err)
	}
}

package analysis

import (
	"math"
	"testing"
)

// binomial is the probability of k failures among n requests.
func binomial(n, k int, p float64) float64 {
	choose := func(x float64) float64 { l, _ := math.Lgamma(x + 1); return l }
	return math.Exp(choose(float64(n)) - choose(float64(k)) - choose(float64(n-k)) +
		float64(k)*math.Log(p) + float64(n-k)*math.Log(1-p))
}

// The bound of all errors rests on this: where a hypothesis is true, a window's factor
// is at most 1 on average, at any rates and sizes.
func TestEvidence_HypothesisIsTrue_FactorIsAtMostOneOnAverage(t *testing.T) {
	const margin = 0.03
	mean := func(trueStable, trueCanary, expected float64, stable, canary int, of func(evidence) float64) float64 {
		sum := 0.0
		for i := range stable + 1 {
			for j := range canary + 1 {
				var e evidence
				e.look(expected, count{float64(i), float64(stable)}, count{float64(j), float64(canary)}, margin)
				sum += binomial(stable, i, trueStable) * binomial(canary, j, trueCanary) * math.Exp(of(e))
			}
		}
		return sum
	}
	worse, fine := func(e evidence) float64 { return e.worse }, func(e evidence) float64 { return e.fine }
	for _, size := range [][2]int{{1, 1}, {30, 2}, {5, 12}, {20, 20}} {
		for _, expected := range []float64{0.0001, 0.01, 0.2, 0.9} {
			for _, is := range []float64{0.0005, 0.01, 0.1, 0.5, 0.95} {
				for _, less := range []float64{0, 0.0004, is / 2} {
					if got := mean(is, is-less, expected, size[0], size[1], worse); got > 1+1e-9 {
						t.Errorf("%v requests, expected %v, canary %v, stable %v: against a good one: %v", size, expected, is-less, is, got)
					}
					if bad := is + margin + less; bad < 1 {
						if got := mean(is, bad, expected, size[0], size[1], fine); got > 1+1e-9 {
							t.Errorf("%v requests, expected %v, canary %v, stable %v: against a bad one: %v", size, expected, bad, is, got)
						}
					}
				}
			}
		}
	}
}

// Without both versions in a window there is nothing to compare.
func TestEvidence_OneVersionOnly_SaysNothing(t *testing.T) {
	var e evidence
	e.look(0.01, count{}, count{50, 100}, 0.03)
	e.look(0.01, count{1, 100}, count{}, 0.03)
	if e != (evidence{}) {
		t.Errorf("got %v, want nothing", e)
	}
}

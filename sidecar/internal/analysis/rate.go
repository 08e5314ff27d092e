package analysis

import (
	"math"
	"slices"
)

// count is how many of a window's requests have failed.
type count struct{ failed, all float64 }

// evidence is what all windows so far say about a rate: natural logarithms of
// e-values, one against "the canary is as good as the stable version" and one against
// "it is worse by the margin".
//
// Each is a product of one factor for each window, whose expected value is at most 1
// where the hypothesis is true, whatever the rates are and however they change from
// window to window. So an e-value ever exceeds 1/p with a probability of at most p
// (Ville's inequality), and looking once more costs nothing. The factors are those of
// Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that
// allow for optional stopping", and Turner and Grünwald, "Exact anytime-valid confidence
// intervals for contingency tables and beyond": the likelihood of the window under one
// alternative, chosen before it is seen, over that under the point of the hypothesis
// that is closest to the alternative. What they ask for is requests that fail
// independently of each other, within one window.
type evidence struct {
	worse float64 // against "at most the stable version's rate"
	fine  float64 // against "the stable version's rate + margin, or more"
}

// elsewhere are rates that the stable version may have in a window in which it does not
// fail as it has so far, as in an outage behind both versions.
var elsewhere = []float64{0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.17, 0.25, 0.35, 0.5}

// unexpected is how likely one of them is called, all together: it takes little from a
// window that is as expected, and leaves something to one that is not.
const unexpected = 0.1

// look takes in one window. expected is the stable version's rate as it was known
// before the window, within 0..1; margin is a difference of rates, within 0..1.
func (e *evidence) look(expected float64, stable, canary count, margin float64) {
	if stable.all == 0 || canary.all == 0 {
		return // nothing to compare
	}
	worse, fine := logMean{}, logMean{}
	take := func(s, weight float64) {
		const edge = 1e-4 // a rate of 0 would make one failure impossible
		s = min(max(s, edge), 1-margin-edge)
		worse.add(logFactor(s, s+margin, 0, stable, canary), weight)
		fine.add(logFactor(s, s, margin, stable, canary), weight)
	}
	take(expected, 1-unexpected)
	for _, s := range elsewhere {
		take(s, unexpected/float64(len(elsewhere)))
	}
	e.worse += worse.log()
	e.fine += fine.log()
}

// logMean is a weighted mean of numbers that are too large for a float64, by their
// logarithms. A mean of factors is a factor again.
type logMean struct{ logs []float64 }

func (m *logMean) add(log, weight float64) { m.logs = append(m.logs, log+math.Log(weight)) }

func (m *logMean) log() float64 {
	largest, sum := slices.Max(m.logs), 0.0
	for _, l := range m.logs {
		sum += math.Exp(l - largest)
	}
	return largest + math.Log(sum)
}

// logFactor is the logarithm of a window's factor for the alternative that the stable
// version fails at rate s and the canary at rate c, against the hypothesis on whose
// border the canary's rate is the stable version's + margin.
func logFactor(s, c, margin float64, stable, canary count) float64 {
	s0 := closest(s, c, margin, stable.all, canary.all)
	return stable.logRatio(s, s0) + canary.logRatio(c, s0+margin)
}

func (n count) logRatio(p, q float64) float64 {
	return n.failed*math.Log(p/q) + (n.all-n.failed)*math.Log((1-p)/(1-q))
}

// closest is the stable version's rate at that point of the border which makes a
// window of this size least surprising under the alternative: the minimum of a
// convex function, where its derivative is 0.
func closest(s, c, margin, stable, canary float64) float64 {
	low, high := 0.0, 1-margin
	for range 60 {
		t := (low + high) / 2
		u := t + margin
		if stable*(t-s)/(t*(1-t))+canary*(u-c)/(u*(1-u)) < 0 {
			low = t
		} else {
			high = t
		}
	}
	return (low + high) / 2
}

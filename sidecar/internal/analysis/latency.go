package analysis

import (
	"math"
	"time"
)

// meanOf is how many requests HAProxy's means of a server go over (TIME_STATS_SAMPLES):
// of fewer they are the average, then each request takes its part of what was before.
const meanOf = 512

// kept is which part of a server's mean is still that of before, by how many requests
// the server had had then and has had now.
func kept(before, now uint64) float64 {
	part := 1.0
	if before < meanOf {
		average := min(now, meanOf)
		part, before = float64(before)/float64(average), average
	}
	return part * math.Pow(1-1.0/meanOf, float64(now-before))
}

// timing is the response times of a version's servers since the last comparison.
type timing struct {
	requests, millis float64 // how many, and the sum of their times
	variance         float64 // of millis, as HAProxy rounds to whole milliseconds
}

// add takes in what a server has done between two looks. The mean of that is computed
// back from HAProxy's: two servers forget at the same speed only with as many requests,
// so of a slowdown that is over a canary's would tell for longer.
func (t *timing) add(before, now Counters) {
	if now.Requests <= before.Requests {
		return
	}
	n, part := float64(now.Requests-before.Requests), kept(before.Requests, now.Requests)
	scale := n / (1 - part)
	t.requests += n
	t.millis += scale * (millis(now.ResponseTime) - part*millis(before.ResponseTime))
	t.variance += scale * scale * (1 + part*part) / 12
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (t timing) mean() float64 {
	if t.requests == 0 {
		return 0
	}
	return max(0, t.millis/t.requests)
}

// rounding is by how much the mean may be off, as a standard deviation.
func (t timing) rounding() float64 { return math.Sqrt(t.variance) / t.requests }

// times are those of both versions.
type times struct{ stable, canary timing }

func (t *times) add(isCanary bool, before, now Counters) {
	if isCanary {
		t.canary.add(before, now)
	} else {
		t.stable.add(before, now)
	}
}

// areEnough reports whether the means can be compared.
func (t *times) areEnough() bool {
	return t.canary.requests >= minTimed && t.stable.requests >= minTimedStable &&
		math.Hypot(t.canary.rounding(), t.stable.rounding()) <= maxRounding*max(t.stable.mean(), minMean)
}

// latencyEvidence is a logarithm of a likelihood ratio: positive where the canary was
// slower. It is Wald's sequential test ("Sequential Analysis", 1947) of how often a
// window's mean is beyond what is between both hypotheses. HAProxy has no more than
// means, so the test knows nothing of how response times are spread. It assumes that a mean of minTimed requests is beyond
// the middle in at most one window of ten, where the canary is as fast as the stable
// version, and in at least nine, where it is slower by the factor.
type latencyEvidence float64

const (
	// minTimed is how many requests a canary needs until its mean counts once more.
	minTimed = 300
	// minTimedStable is how many the stable version needs beside them.
	minTimedStable = 100
	// maxRounding is how much of the stable version's mean the rounding of HAProxy's may
	// make: a server with few requests is known badly.
	maxRounding = 0.15
	// rarely is how often a mean may be on the wrong side.
	rarely = 0.1
	// minMean, in milliseconds, is a mean that is fast enough: HAProxy rounds to whole
	// ones, and of 1 and 2 one cannot say which is slower.
	minMean = 5
)

// look takes in one window's means, in milliseconds. factor is what makes a canary too slow, above 1.
func (l *latencyEvidence) look(stable, canary, factor float64) {
	step := latencyEvidence(math.Log((1 - rarely) / rarely))
	if canary > max(stable, minMean)*math.Sqrt(factor) {
		*l += step
	} else {
		*l -= step
	}
}

package analysis

import "math"

// latencyEvidence is a logarithm of a likelihood ratio: positive where the canary was
// slower. It is Wald's sequential test ("Sequential Analysis", 1947) of how often a
// window's mean is beyond what is between both hypotheses. HAProxy has no more than
// means, of about the last thousand requests of a server, so the test knows nothing of
// how response times are spread. It assumes that a mean of minTimed requests is beyond
// the middle in at most one window of ten, where the canary is as fast as the stable
// version, and in at least nine, where it is slower by the factor.
type latencyEvidence float64

const (
	// minTimed is how many requests a canary needs until its mean counts once more.
	minTimed = 300
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

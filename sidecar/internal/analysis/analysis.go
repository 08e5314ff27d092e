package analysis

import (
	"fmt"
	"math"
	"time"
)

// Rules say what makes a canary worse than the stable version.
type Rules struct {
	// Errors is by how much more of its requests may fail, 0..1: 0.03 is 3 points.
	Errors float64
	// Latency is the factor of the mean response time that is too slow, above 1.
	Latency float64
	// MaxWrong bounds how likely a canary that is as good is called worse, and one
	// that is worse by this much as good, over all looks of a rollout.
	MaxWrong float64
	// MinRequests is how many requests a canary must have had before it passes.
	MinRequests uint64
}

// Default is what a rollout is compared by unless its document says otherwise.
var Default = Rules{Errors: 0.03, Latency: 2, MaxWrong: 0.01, MinRequests: 100}

// Counters are what a HAProxy has counted of one server since its worker began.
type Counters struct {
	Requests uint64
	Errors   uint64 // answers 5xx, connections that failed, answers that broke off
	Retries  uint64 // requests that were tried again
	// ResponseTime is HAProxy's mean over about the last 512 requests.
	ResponseTime time.Duration
}

// Reading is one instance on one load balancer.
type Reading struct {
	LoadBalancer, Backend, Server, Instance, Node string
	IsCanary                                      bool
	IsUp                                          bool // as HAProxy sees it
	Counters
}

// Outcome is what a comparison comes to.
type Outcome string

// The outcomes.
const (
	Waiting Outcome = "waiting" // not known yet
	Passed  Outcome = "passed"  // as good as the stable version
	Failed  Outcome = "failed"  // worse
)

// Verdict is an outcome and the numbers behind it, in words.
type Verdict struct {
	Outcome Outcome
	Reason  string
}

// totals are the counters of one version, of all looks after the first.
type totals struct {
	requests, errors, retries uint64
	responseTime              float64 // the mean of the last comparison, in milliseconds
}

// maxDown is at how many looks in a row a canary may be without a server that is up.
const maxDown = 3

// maxLost is how often instances of the canary may go down while none of the stable
// version does. For each of those the canary may have as many again.
const maxLost = 3

// minCalm is at how many looks no instance of a canary that is as good has just gone down:
// one that does so again and again may have few errors, as others answer for it.
const minCalm = 4

// Analysis is what the looks at a rollout have found so far.
type Analysis struct {
	rules           Rules
	last            map[server]seen // of the last look
	stable, canary  totals          // of the rollout, and of the step
	stableInStep    totals
	errors, retries evidence
	latency         latencyEvidence
	down            int                          // at how many looks in a row no server of the canary was up
	ups             map[instance]bool            // at the last look; false: it is down on a load balancer
	lost            struct{ stable, canary int } // how often an instance that was up was down
	calm            int                          // at how many looks since the canary last lost one
	times           times                        // since the last comparison, beside what is not taken in yet of each server
	isTimed         bool                         // the current step's have been compared
}

type instance struct {
	node, id string
	isCanary bool
}

type server struct {
	loadBalancer, backend, name, instance, node string
	isCanary                                    bool
}

// seen is what is known of a server.
type seen struct {
	Counters
	timed Counters // as they were when its response times were last taken in
}

// New begins an analysis.
func New(rules Rules) *Analysis { return &Analysis{rules: rules} }

// NextStep keeps what is known against the canary, and what the stable version does,
// but asks for new evidence that it is as good: it has another share now.
func (a *Analysis) NextStep() {
	a.errors.fine, a.retries.fine, a.canary, a.stableInStep = 0, 0, totals{}, totals{}
	a.latency, a.times, a.isTimed = max(a.latency, 0), times{}, false
	for key, s := range a.last {
		a.last[key] = seen{s.Counters, s.Counters}
	}
}

// Look takes in the counters of all load balancers. What a server has counted before
// it was first seen is left out; a counter that has fallen began again with a worker.
func (a *Analysis) Look(readings []Reading) Verdict {
	var stable, canary window
	next := make(map[server]seen, len(readings))
	up, isThere, ups := false, false, make(map[instance]bool, len(a.ups))
	for _, r := range readings {
		i := instance{r.Node, r.Instance, r.IsCanary}
		isUp, isSeen := ups[i]
		ups[i] = r.IsUp && (isUp || !isSeen)
		key := server{r.LoadBalancer, r.Backend, r.Server, r.Instance, r.Node, r.IsCanary}
		next[key] = seen{r.Counters, r.Counters}
		if r.IsCanary {
			isThere, up = true, up || r.IsUp
		}
		last, isKnown := a.last[key]
		if !isKnown {
			continue
		}
		w := &stable
		if r.IsCanary {
			w = &canary
		}
		if w.add(r.since(last.Counters)); r.beganAgain(last.Counters) {
			last.timed = Counters{}
		}
		next[key] = seen{r.Counters, last.timed}
	}
	a.last = next
	if a.down++; up || !isThere {
		a.down = 0
	}
	a.countLost(ups)

	before := a.stable
	a.stable.add(stable)
	a.stableInStep.add(stable)
	a.canary.add(canary)
	if before.requests > 0 {
		a.errors.look(rate(before.errors, before.requests), stable.errors(), canary.errors(), a.rules.Errors)
		a.retries.look(rate(before.retries, before.requests), stable.retries(), canary.retries(), a.rules.Errors)
	}
	a.compareTimes()
	return a.verdict()
}

// countLost counts the instances that were up on all load balancers at the look before, and
// are not now.
func (a *Analysis) countLost(ups map[instance]bool) {
	a.calm++
	for i, isUp := range ups {
		switch {
		case isUp || !a.ups[i]:
		case i.isCanary:
			a.lost.canary++
			a.calm = 0
		default:
			a.lost.stable++
		}
	}
	a.ups = ups
}

// Totals is what was counted of one version in the current step.
type Totals struct {
	Requests, Errors, Retries uint64
	ResponseTime              float64 // the mean of the last comparison, in milliseconds; 0: none yet
}

// Totals are those of both versions.
func (a *Analysis) Totals() (stable, canary Totals) {
	of := func(t totals) Totals { return Totals{t.requests, t.errors, t.retries, t.responseTime} }
	stable, canary = of(a.stableInStep), of(a.canary)
	if a.isTimed {
		stable.ResponseTime = a.stable.responseTime
	}
	return stable, canary
}

// compareTimes compares the response times once there are enough of them. Until then
// those of a server are taken in before HAProxy's mean forgets them.
func (a *Analysis) compareTimes() {
	now := a.times
	for key, s := range a.last {
		now.add(key.isCanary, s.timed, s.Counters)
	}
	isDue := now.areEnough()
	for key, s := range a.last {
		if isFull := s.Requests >= s.timed.Requests+meanOf; isDue || isFull {
			if a.last[key] = (seen{s.Counters, s.Counters}); isFull {
				a.times.add(key.isCanary, s.timed, s.Counters)
			}
		}
	}
	if isDue {
		a.times, a.isTimed = times{}, true
		a.stable.responseTime, a.canary.responseTime = now.stable.mean(), now.canary.mean()
		a.latency.look(a.stable.responseTime, a.canary.responseTime, a.rules.Latency)
	}
}

// rate is a proportion as it is guessed from what was counted (Krichevsky and Trofimov).
func rate(failed, all uint64) float64 { return (float64(failed) + 0.5) / (float64(all) + 1) }

// checks is how many things are compared: each may be wrong with its part of MaxWrong.
const checks = 3

func (a *Analysis) verdict() Verdict {
	worse, fine := math.Log(checks/a.rules.MaxWrong), math.Log(1/a.rules.MaxWrong)
	switch {
	case a.down >= maxDown:
		return Verdict{Failed, fmt.Sprintf("no server of the canary is up, in %d readings in a row", a.down)}
	case a.lost.canary >= maxLost*(1+a.lost.stable):
		return Verdict{Failed, fmt.Sprintf("instances of the canary went down %d times, those of the stable version %d times", a.lost.canary, a.lost.stable)}
	case a.errors.worse >= worse:
		return Verdict{Failed, "more errors: " + a.compare("failed", totals.errorRate)}
	case a.retries.worse >= worse:
		return Verdict{Failed, "more retries: " + a.compare("were tried again", totals.retryRate)}
	case float64(a.latency) >= worse:
		return Verdict{Failed, "slower: " + a.meanTimes()}
	case a.stable.requests == 0:
		return Verdict{Waiting, "the stable version has had no requests to compare with"}
	case a.canary.requests < a.rules.MinRequests:
		return Verdict{Waiting, fmt.Sprintf("%d of %d requests that the comparison needs", a.canary.requests, a.rules.MinRequests)}
	case a.lost.canary > 0 && a.calm < minCalm:
		return Verdict{Waiting, "an instance of the canary has just gone down: it may do so again"}
	case a.errors.fine < fine:
		return Verdict{Waiting, "errors: not enough requests yet: " + a.compare("failed", totals.errorRate)}
	case a.retries.fine < fine:
		return Verdict{Waiting, "retries: not enough requests yet: " + a.compare("were tried again", totals.retryRate)}
	case float64(-a.latency) < fine:
		return Verdict{Waiting, "response time: not enough requests yet: " + a.meanTimes()}
	}
	return Verdict{Passed, a.compare("failed", totals.errorRate) + "; " + a.meanTimes()}
}

func (t totals) errorRate() float64 { return share(t.errors, t.requests) }
func (t totals) retryRate() float64 { return share(t.retries, t.requests) }

func share(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

func (a *Analysis) compare(what string, of func(totals) float64) string {
	return fmt.Sprintf("%.2f %% of %d requests %s, %.2f %% of %d of the stable version", 100*of(a.canary), a.canary.requests, what,
		100*of(a.stable), a.stable.requests)
}

func (a *Analysis) meanTimes() string {
	if !a.isTimed {
		return "response times not compared yet"
	}
	return fmt.Sprintf("%.0f ms on average, %.0f ms of the stable version", a.canary.responseTime, a.stable.responseTime)
}

// window is what one version has done since the look before.
type window struct {
	requests, failed, retried uint64
}

func (w *window) add(c Counters) {
	w.requests += c.Requests
	w.failed += min(c.Errors, c.Requests)
	w.retried += min(c.Retries, c.Requests)
}

func (w window) errors() count  { return count{float64(w.failed), float64(w.requests)} }
func (w window) retries() count { return count{float64(w.retried), float64(w.requests)} }

func (t *totals) add(w window) {
	t.requests += w.requests
	t.errors += w.failed
	t.retries += w.retried
}

// since is what was counted after before. Response times are means, and stay.
func (c Counters) since(before Counters) Counters {
	if c.beganAgain(before) {
		return c
	}
	c.Requests -= before.Requests
	c.Errors -= before.Errors
	c.Retries -= before.Retries
	return c
}

// beganAgain reports whether another worker has counted than before.
func (c Counters) beganAgain(before Counters) bool {
	return c.Requests < before.Requests || c.Errors < before.Errors || c.Retries < before.Retries
}

package rollout

import (
	"fmt"
	"time"
)

// Verdict is what is thought of a canary's current step.
type Verdict string

// The verdicts.
const (
	Pass Verdict = "pass" // the next step may begin
	Fail Verdict = "fail" // the rollout is to be aborted
	Wait Verdict = "wait" // it is not known yet
)

// Judgement is a verdict and why.
type Judgement struct {
	Verdict Verdict
	Reason  string
}

// A step that waits for its verdict is paused at its deadline.
const (
	deadlineSteps = 10 // intervals
	leastDeadline = 10 * time.Minute
)

// Next returns the document that follows a running one at a time, or nil if nothing is due:
// a step that has lasted its interval and passes is followed by the next one. One that
// fails is aborted at once; one that waits for its verdict for ten intervals, and ten
// minutes, is paused.
func (d *Document) Next(a Author, j Judgement) *Document {
	if d.State != Running {
		return nil
	}
	lasted := a.At.Sub(d.StepAt)
	switch {
	case j.Verdict == Fail:
		return d.changed("abort", a, func(n *Document) { n.giveUp(j.Reason) })
	case lasted < time.Duration(d.Interval):
	case j.Verdict == Pass && d.Step < len(d.Steps)-1:
		return d.changed("step", a, func(n *Document) { n.goTo(n.Step+1, a.At); n.Reason = j.Reason })
	case j.Verdict == Wait && lasted >= max(deadlineSteps*time.Duration(d.Interval), leastDeadline):
		return d.changed("pause", a, func(n *Document) {
			n.State, n.Reason = Paused, fmt.Sprintf("no verdict within %s: %s", lasted.Round(time.Second), j.Reason)
		})
	}
	return nil
}

// giveUp returns the stable version all traffic.
func (d *Document) giveUp(reason string) {
	for version := range d.Shares {
		d.Shares[version] = 0
	}
	d.Shares[d.Stable], d.State, d.Reason = 100, Aborted, reason
}

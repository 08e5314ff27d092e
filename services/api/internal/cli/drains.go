package cli

import "github.com/pointsman/pointsman/registrator"

// drains is what the load balancers said to a node that leaves. It is used by
// the goroutine of the leave only.
type drains struct{ said, not int }

func (d *drains) note(how registrator.Drain) {
	switch how.Outcome {
	case registrator.OutcomeDrained, registrator.OutcomeNotRouted:
		d.said++
	case registrator.OutcomeWaited, registrator.OutcomeCut:
		d.not++
	}
}

// complete reports whether all have said that the node is drained, and there
// was one to say so.
func (d *drains) complete() bool { return d.said > 0 && d.not == 0 }

package cli

import "github.com/pointsman/pointsman/registrator"

// letGo is what the load balancers said to a node that leaves. It is used by
// the goroutine of the leave only.
type letGo struct{ said, not int }

func (l *letGo) note(how registrator.LetGo) {
	switch how.Outcome {
	case registrator.OutcomeDrained, registrator.OutcomeNotRouted:
		l.said++
	case registrator.OutcomeWaited, registrator.OutcomeCut:
		l.not++
	}
}

// have reports whether all have said that nobody is on the node and nobody
// comes, and there was one to say so.
func (l *letGo) have() bool { return l.said > 0 && l.not == 0 }

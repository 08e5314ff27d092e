package registrator

import (
	"fmt"
	"time"
)

// Outcome is how it went with one load balancer. The values are fit to be a
// metric's label.
type Outcome string

// The outcomes.
const (
	// OutcomeDrained: it says that the program has no session and gets no new one.
	OutcomeDrained Outcome = "drained"
	// OutcomeNotRouted: it says that it does not route to the service.
	OutcomeNotRouted Outcome = "not_routed"
	// OutcomeWaited: it could not be asked, and got LeaveWait to drain.
	OutcomeWaited Outcome = "waited"
	// OutcomeCut: the time was over before it had drained.
	OutcomeCut Outcome = "cut"
)

// Drain is how one load balancer drained a program that leaves.
type Drain struct {
	Balancer string // its name; where its registration has none, the registration's ID
	Address  string // host:port at which it was asked last; "" if it could not be
	Outcome  Outcome
	Took     time.Duration // since the program was marked as leaving

	// Sessions is how many were on the program by its last answer, MaxSessions
	// the most by any. They are 0 where everything ended before the first one.
	Sessions, MaxSessions int

	// Reason is why the outcome is OutcomeWaited or OutcomeCut; else nil.
	Reason error
}

// brief tells of it in a few words.
func (l Drain) brief() string {
	took := l.Took.Round(time.Millisecond)
	if l.Outcome == OutcomeDrained {
		return fmt.Sprintf("%s %v", l.Balancer, took)
	}
	return fmt.Sprintf("%s %v (%s)", l.Balancer, took, l.Outcome)
}

package reconcile

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// pace is how often HAProxy is read while something is awaited there: at first
// twenty times a second, and less often the longer it lasts, down to once a
// second. A server that is down for hours is no reason for more.
type pace struct {
	waiting []plan.Waiting // what is awaited, without its numbers
	since   time.Time      // since when just that
	polled  []plan.Waiting // room for the next look's
}

const (
	paceMin = 50 * time.Millisecond
	paceMax = time.Second
)

// next is how long to wait before the next look.
func (c *pace) next(now time.Time, waiting []plan.Waiting) time.Duration {
	polled := c.polled[:0]
	for _, w := range waiting {
		switch w.For {
		case plan.ForSessions, plan.ForReplacement, plan.ForCheck, plan.ForSlot:
			w.Sessions, w.Check, w.Down = 0, plan.Check{}, 0
			polled = append(polled, w)
		case plan.ForGuard, plan.ForDamping, plan.ForConsul, plan.ForAgent:
		}
	}
	c.polled = polled
	if !slices.Equal(polled, c.waiting) {
		c.polled, c.waiting, c.since = c.waiting, polled, now
	}
	if len(polled) == 0 {
		return time.Hour
	}
	return min(max(now.Sub(c.since)/20, paceMin), paceMax)
}

package reconcile

import (
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// chain is the steps that lead one to another, over rounds and passes, until nothing is left to
// do or one comes again: that does not show, or another program undoes it.
type chain struct {
	sent    map[plan.Step]bool
	last    []plan.Step // of this pass
	stalled int         // how often these were sent again in this pass
	isOpen  bool        // the last pass has ended on the way
}

// maxStalled bounds how often one pass sends again what was sent and does not show.
const maxStalled = 2

// begin is that of a pass.
func (c *chain) begin() { c.last, c.stalled, c.isOpen = nil, 0, false }

// goesOn reports whether there are steps, and all are new in the chain.
func (c *chain) goesOn(due []plan.Step) bool {
	return len(due) > 0 && !slices.ContainsFunc(due, func(s plan.Step) bool { return c.sent[s] })
}

// isStalled reports whether the last steps are due again, too often.
func (c *chain) isStalled(due []plan.Step) bool {
	if slices.Equal(due, c.last) {
		c.stalled++
	}
	return c.stalled > maxStalled
}

// note takes what was sent.
func (c *chain) note(due []plan.Step) {
	if c.sent == nil {
		c.sent = map[plan.Step]bool{}
	}
	for _, s := range due {
		c.sent[s] = true
	}
	c.last = due
}

// end begins another chain.
func (c *chain) end() {
	clear(c.sent)
	c.isOpen = false
}

package consul

import (
	"math/rand/v2"
	"time"
)

// pace bounds how often one service is asked, by a bucket of tokens that
// refills over time. Without it a service whose index rises many times a
// second, or a Consul that answers at once for whatever reason, makes a loop
// that spins. An answer that brought nothing costs more, so noise gets through
// 5 times a second and news 20 times, after a burst of 10 or 40.
type pace struct {
	spent  float64   // tokens, 0 to paceBurst and a little more
	marked time.Time // when spent was right
}

const (
	paceBurst  = 40 // tokens
	paceRefill = 20 // tokens a second

	costNews    = 1 // tokens
	costNothing = 4 // tokens
)

// spend takes the cost of one answer.
func (p *pace) spend(now time.Time, cost float64) {
	p.refill(now)
	p.spent += cost
}

// delay is how long the next query must wait.
func (p *pace) delay(now time.Time) time.Duration {
	p.refill(now)
	over := p.spent - paceBurst
	if over <= 0 {
		return 0
	}
	return time.Duration(over / paceRefill * float64(time.Second))
}

func (p *pace) refill(now time.Time) {
	if passed := now.Sub(p.marked); passed > 0 {
		p.spent = max(0, p.spent-passed.Seconds()*paceRefill)
	}
	p.marked = now
}

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// backoffCeiling is the longest wait after a number of failures in a row, 1 or
// more: 100 ms, doubled by each, and 10 s at most.
func backoffCeiling(failures int) time.Duration {
	shift := min(failures-1, 7) // 100 ms << 7 is above 10 s already
	return min(minBackoff<<shift, maxBackoff)
}

// backoff is the wait after a number of failures in a row, by full jitter
// (Amazon's Architecture Blog, "Exponential Backoff And Jitter"): thousands of
// watches that failed at one moment do not come back at one moment.
func backoff(failures int) time.Duration {
	return 1 + rand.N(backoffCeiling(failures))
}

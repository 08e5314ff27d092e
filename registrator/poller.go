package registrator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// How a sidecar is asked.
const (
	// askWait is how long it may hold an answer back.
	askWait = 5 * time.Second
	// maxBusy bounds how long one that is busy is left alone.
	maxBusy = 5 * time.Second
)

var (
	errMoved = errors.New("sidecar moved")
	errLate  = errors.New("no answer")
	errStale = errors.New("it has not received the leaving mark from Consul")
)

// maxStale is how many waits a sidecar gets that answers and does not know of the
// mark: it may be behind, while thousands of instances change.
const maxStale = 3

// poller is what is said with one sidecar, until its load balancer has drained.
type poller struct {
	asker *asker
	told  *agentCheck   // the other way to its load balancer
	wait  time.Duration // how long it may be silent
	began time.Time     // when the handshake did

	service, instance string // that it is asked about

	mu      sync.Mutex
	to      sidecar
	index   uint64
	mark    uint64          // the index from which on Consul shows the mark
	here    context.Context // for as long as it is there
	hasGone context.CancelCauseFunc

	// What the answers said. Only run uses them.
	got  reply
	most int
	// stale is since when it answers without knowing of the mark; zero while it does.
	stale time.Time
}

func (r *round) newTalk(ctx context.Context, to sidecar, index uint64) *poller {
	t := &poller{
		asker: r.asker, told: r.asked, service: r.service, instance: r.id, wait: r.wait, began: r.began,
		to: to, index: index, mark: index,
	}
	t.here, t.hasGone = context.WithCancelCause(ctx)
	return t
}

// learn takes where it is now, and Consul's index of now.
func (t *poller) learn(ctx context.Context, to sidecar, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.to.isAt(to) {
		t.hasGone(errMoved)
		t.here, t.hasGone = context.WithCancelCause(ctx)
	}
	// Where Consul has lost its data, its indexes begin again below that of the mark.
	t.to, t.index, t.mark = to, index, min(t.mark, index)
}

func (t *poller) now() (here context.Context, to sidecar, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.here, t.to, t.index
}

// silentSince is since when the load balancer says nothing, where a question that began then
// has failed. asked: it had reached the load balancer; hold is how long that may keep it.
func (t *poller) silentSince(err error, asked bool, to sidecar, began time.Time, hold time.Duration) time.Time {
	switch {
	case errors.Is(err, errLate):
		return began.Add(hold) // when it should have answered at the latest
	case asked:
		return time.Now() // there was a load balancer until now
	case to.unread:
		return t.began // it was asked for since then
	}
	return began
}

// run asks until the load balancer has drained; or was silent, or said nothing
// that can be used, for the bounded wait without a break; or ctx ends.
func (t *poller) run(ctx context.Context) Drain {
	var silent time.Time // since when; zero while it answers
	var why error
	delay, hold := minRetry, time.Duration(0) // at first it says at once that it is there
	late := time.AfterFunc(soon(t.wait), t.isLost)
	defer late.Stop()
	for {
		here, to, index := t.now()
		began := time.Now()
		if silent.IsZero() {
			late.Reset(hold + soon(t.wait))
		}
		got, asked, err := t.ask(here, to, index, silent, hold) //nolint:contextcheck // it ends with ctx, and when the sidecar moves
		next := delay - rand.N(delay/2)
		delay = min(2*delay, maxRetry)
		after, isBusy := busy(err)
		if err == nil || isBusy || here.Err() != nil {
			late.Stop()
		}
		switch {
		case err == nil:
			t.note(got)
			if outcome := got.outcome(); outcome != "" {
				return t.end(to, outcome, nil)
			}
			silent, why = time.Time{}, nil
			if t.isStale() {
				return t.end(to, OutcomeWaited, errStale)
			}
			if hold == 0 || time.Since(began) >= hold {
				next, delay = 0, minRetry // it held the answer back, as it should
			}
			hold = askWait
		case ctx.Err() != nil:
			if why == nil {
				why = context.Cause(ctx)
			}
			return t.end(to, OutcomeCut, why)
		case here.Err() != nil: // it has moved
			silent, why, delay, next = time.Time{}, nil, minRetry, 0
		case isBusy:
			silent, why, next = time.Time{}, err, min(max(next, after), maxBusy)
			t.told.hears(to, true)
		default:
			if why == nil || !errors.Is(err, errLate) { // the last question may be cut short, and says less
				why = err
			}
			if silent.IsZero() {
				silent = t.silentSince(err, asked, to, began, hold)
				late.Reset(time.Until(silent.Add(soon(t.wait))))
			}
			if left := time.Until(silent.Add(t.wait)); left < next+minRetry {
				next = left // no time for another question
			}
		}
		_ = pause(here, next) //nolint:contextcheck // what ended it shows with the next question
		if !silent.IsZero() && time.Since(silent) >= t.wait {
			return t.end(to, OutcomeWaited, why)
		}
	}
}

// ask asks once, in bounded time: one that is silent has what is left of the
// wait. hold is how long it may hold the answer back.
func (t *poller) ask(ctx context.Context, to sidecar, index uint64, silent time.Time, hold time.Duration) (got reply, asked bool, err error) {
	limit := hold + t.wait
	if !silent.IsZero() {
		limit = time.Until(silent.Add(t.wait))
	}
	if over, bounded := ctx.Deadline(); bounded {
		limit = min(limit, time.Until(over))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %v", errLate, limit.Round(time.Millisecond)))
	defer cancel()
	return t.asker.ask(ctx, to, t.service, t.instance, index, min(hold, limit*3/4))
}

// isStale reports whether it has answered for too long without knowing of the mark.
func (t *poller) isStale() bool {
	t.mu.Lock()
	mark, to := t.mark, t.to
	t.mu.Unlock()
	switch {
	case t.got.Index >= mark:
		t.stale = time.Time{}
	case t.stale.IsZero():
		t.stale = time.Now()
	}
	t.told.hears(to, t.stale.IsZero() || time.Since(t.stale) < soon(t.wait))
	return !t.stale.IsZero() && time.Since(t.stale) >= maxStale*t.wait
}

// isLost notes that it has not answered for a part of the wait.
func (t *poller) isLost() {
	_, to, _ := t.now()
	t.told.hears(to, false)
}

func (t *poller) note(got reply) {
	t.got = got
	t.most = max(t.most, got.Sessions)
}

func (t *poller) end(to sidecar, outcome Outcome, why error) Drain {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hasGone(nil)
	return Drain{
		Balancer: to.label(), Address: to.at, Outcome: outcome, Took: time.Since(t.began),
		Sessions: t.got.Sessions, MaxSessions: t.most, Reason: why,
	}
}

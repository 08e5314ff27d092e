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
	// askGrace is how long its answer may take on top.
	askGrace = 2 * time.Second
	// maxBusy bounds how long one that is busy is left alone.
	maxBusy = 5 * time.Second
)

var (
	errMoved = errors.New("sidecar moved")
	errLate  = errors.New("no answer")
)

// poller is what is said with one sidecar, until its load balancer has drained.
type poller struct {
	asker *asker
	about request       // except the load balancer's name
	wait  time.Duration // how long it may be silent
	began time.Time     // when the handshake did

	mu      sync.Mutex
	to      sidecar
	index   uint64
	here    context.Context // for as long as it is there
	hasGone context.CancelCauseFunc

	// What the answers said. Only run uses them.
	got  answer
	most int
}

func (r *round) newTalk(ctx context.Context, to sidecar, index uint64) *poller {
	t := &poller{
		asker: r.asker, about: request{service: r.service, instance: r.id}, wait: r.wait, began: r.began,
		to: to, index: index,
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
	t.to, t.index = to, index
}

func (t *poller) now() (here context.Context, to sidecar, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.here, t.to, t.index
}

// run asks until the load balancer has drained; or was silent, or said nothing
// that can be used, for the bounded wait without a break; or ctx ends.
func (t *poller) run(ctx context.Context) Drain {
	var silent time.Time // since when; zero while it answers
	var why error
	delay := minRetry
	for {
		here, to, index := t.now()
		began := time.Now()
		got, asked, err := t.ask(here, to, index, silent) //nolint:contextcheck // it ends with ctx, and when the sidecar moves
		next := delay - rand.N(delay/2)
		delay = min(2*delay, maxRetry)
		busy, isBusy := errors.AsType[*busyError](err)
		switch {
		case err == nil:
			t.note(got)
			if got.mayStop() {
				return t.drained(to)
			}
			silent, why = time.Time{}, nil
			if time.Since(began) >= time.Second {
				next, delay = 0, minRetry // it held the answer back, as it should
			}
		case ctx.Err() != nil:
			if why == nil {
				why = context.Cause(ctx)
			}
			return t.end(to, OutcomeCut, why)
		case here.Err() != nil: // it has moved
			silent, why, delay, next = time.Time{}, nil, minRetry, 0
		case isBusy:
			silent, why, next = time.Time{}, err, min(max(next, busy.after), maxBusy)
		default:
			if why == nil || !errors.Is(err, errLate) { // the last question may be cut short, and says less
				why = err
			}
			if silent.IsZero() {
				silent = began
				if asked {
					silent = time.Now() // there was a load balancer until now
				}
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
// wait.
func (t *poller) ask(ctx context.Context, to sidecar, index uint64, silent time.Time) (answer, bool, error) {
	limit := askWait + askGrace
	if !silent.IsZero() {
		limit = time.Until(silent.Add(t.wait))
	}
	if over, bounded := ctx.Deadline(); bounded {
		limit = min(limit, time.Until(over))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %v", errLate, limit.Round(time.Millisecond)))
	defer cancel()
	about := t.about
	about.balancer = to.name
	return t.asker.ask(ctx, to, about, index, min(askWait, limit*3/4))
}

func (t *poller) note(got answer) {
	t.got = got
	t.most = max(t.most, got.sessions)
}

func (t *poller) drained(to sidecar) Drain {
	if !t.got.routed {
		return t.end(to, OutcomeNotRouted, nil)
	}
	return t.end(to, OutcomeDrained, nil)
}

func (t *poller) end(to sidecar, outcome Outcome, why error) Drain {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hasGone(nil)
	return Drain{
		Balancer: to.name, Address: to.at, Outcome: outcome, Took: time.Since(t.began),
		Sessions: t.got.sessions, MaxSessions: t.most, Reason: why,
	}
}

package deploy

import (
	"context"
	"errors"
	"time"
)

// rollout is a rollout of 1.1 beside 1.0 that the world's sidecars move, a step each ten
// seconds.
type rollout struct {
	w     *world
	is    Rollout
	steps []int

	ends      map[int]RolloutState // at the share
	fails     error                // of Prepare and Start
	silent    map[string]int       // how often a change is made and its answer lost, by name; below 0: it is not made either
	unapplied string
	fixed     string
	ended     bool
	seen      func(Rollout) // before it is seen; may be nil
	aborts    []string
	wobbles   bool   // the share of 1.1 is half a point more each other time
	views     int    // number of times that it was looked at
	blind     string // a load balancer that does not see it
	stuck     string // a load balancer that goes on to give 1.1 nothing
	mute      bool   // it cannot be read
	late      bool   // no load balancer follows its changes: 1.1 has all traffic on each
}

func newRollout(w *world, steps ...int) *rollout {
	w.rollout = &rollout{w: w, steps: steps, is: Rollout{State: Prepared, Next: steps[0], Interval: 10 * time.Second, By: "ann@ops1"}, ends: map[int]RolloutState{}}
	return w.rollout
}

// sharesOn is what a load balancer sees. The caller holds the world's lock.
func (r *rollout) sharesOn(b *lb) map[string]Share {
	if r.ended || b.name == r.blind {
		return nil
	}
	share := r.is.Share
	if r.late {
		share = 100
	}
	if b.name == r.stuck {
		share = 0
	}
	stable, seen := 100-share, float64(share)
	if r.views++; r.wobbles && r.views%2 == 0 {
		seen += 0.5
	}
	return map[string]Share{"1.0": {stable, float64(stable)}, "1.1": {share, seen}}
}

// change makes a change, or loses the answer.
func (r *rollout) change(name string, change func()) (Rollout, error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	left := r.silent[name]
	if left >= 0 {
		change()
	}
	switch {
	case left > 0:
		r.silent[name]--
		return Rollout{}, &UnansweredError{errors.New("consul: no answer to " + name)}
	case left < 0:
		r.silent[name]++
		return Rollout{}, &UnansweredError{errors.New("changed meanwhile by lb0")}
	}
	return r.is, r.fails
}

func (r *rollout) Prepare(_ context.Context, stable string, again bool) (Rollout, error) {
	if stable != "1.0" {
		r.w.t.Errorf("the stable version is %q", stable)
	}
	return r.change("prepare", func() {
		if again && r.is.State == Promoted {
			r.is = Rollout{State: Prepared, Next: r.steps[0], Interval: r.is.Interval, By: r.is.By}
		}
	})
}

func (r *rollout) Start(context.Context) (Rollout, error) {
	return r.change("start", func() {
		if r.is.State == Prepared {
			r.w.calls = append(r.w.calls, "rollout starts")
			r.is.State = Walking
			r.goTo(r.is.Next)
		}
	})
}

func (r *rollout) Switch(context.Context) (Rollout, error) {
	return r.change("switch", func() {
		if r.is.State == Prepared {
			r.w.calls = append(r.w.calls, "switch")
			r.is.State, r.is.Share, r.is.At = Promoted, 100, time.Now()
		}
	})
}

func (r *rollout) goTo(share int) Rollout {
	r.is.Share, r.is.StepAt, r.is.Next = share, time.Now(), 0
	for i, s := range r.steps {
		if s == share && i+1 < len(r.steps) {
			r.is.Next = r.steps[i+1]
		}
	}
	if share == 100 {
		r.is.State = Promoted
	}
	return r.is
}

func (r *rollout) Now(context.Context) (Rollout, error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if end := r.ends[r.is.Share]; end != "" && r.is.State == Walking {
		if r.is.State, r.is.Reason = end, "by this test"; end == RolloutAborted {
			r.is.Share = 0
		}
	}
	if r.is.State == Walking && r.is.Next > 0 && time.Since(r.is.StepAt) >= r.is.Interval {
		r.goTo(r.is.Next)
	}
	if r.mute {
		return Rollout{}, &UnansweredError{errors.New("consul: no answer")}
	}
	if r.seen != nil {
		r.seen(r.is)
	}
	return r.is, nil
}

func (r *rollout) Abort(_ context.Context, reason string) (Rollout, error) {
	return r.change("abort", func() {
		if r.is.State == Promoted || r.is.State == RolloutReplaced {
			return
		}
		r.aborts = append(r.aborts, reason)
		r.is.State, r.is.Share, r.is.Reason = RolloutAborted, 0, reason
	})
}

func (r *rollout) End(context.Context) error {
	r.ended = true
	return nil
}

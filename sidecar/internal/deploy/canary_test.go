package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
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
	unapplied string
	fixed     string
	ended     bool
	aborts    []string
	blind     string // a load balancer that does not see it
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
	stable := 100 - r.is.Share
	return map[string]Share{"1.0": {stable, float64(stable)}, "1.1": {r.is.Share, float64(r.is.Share)}}
}

func (r *rollout) Prepare(_ context.Context, stable string) (Rollout, error) {
	if stable != "1.0" {
		r.w.t.Errorf("the stable version is %q", stable)
	}
	return r.is, r.fails
}

func (r *rollout) Start(context.Context) (Rollout, error) {
	r.w.note("rollout starts")
	r.is.State = Walking
	return r.goTo(r.is.Next), r.fails
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
		if r.is.State, r.is.Reason = end, "as it was told"; end == RolloutAborted {
			r.is.Share = 0
		}
	}
	if r.is.State == Walking && r.is.Next > 0 && time.Since(r.is.StepAt) >= r.is.Interval {
		r.goTo(r.is.Next)
	}
	return r.is, nil
}

func (r *rollout) Abort(_ context.Context, reason string) error {
	r.aborts = append(r.aborts, reason)
	r.is.State, r.is.Share, r.is.Reason = RolloutAborted, 0, reason
	return nil
}

func (r *rollout) End(context.Context) error {
	r.ended = true
	return nil
}

func TestCanary_EveryStepPasses_OldOnesStoppedAfterTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0", "lb1")
		r := newRollout(w, 5, 50, 100)
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = 7 * time.Second })), Deployed)
		w.mustRun(map[string]int{"1.1": 3})
		w.mustCall("start 3 of 3", "rollout starts", "stop old-0,old-1,old-2 undo=false last=true missing=0")
		if took := time.Since(begun); took < 27*time.Second {
			t.Errorf("it took %s, want two steps of 10 s and 7 s in which the new ones are watched", took)
		}
		if !r.ended || len(r.aborts) > 0 {
			t.Errorf("the rollout: %+v", r)
		}
	})
}

func TestCanary_Aborted_NewOnesStoppedAndOldOnesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		r := newRollout(w, 5, 50, 100)
		r.ends[50] = RolloutAborted
		got := w.deploy(t.Context(), order())
		w.mustBe(got, Aborted, `the rollout was aborted by "ann@ops1": "as it was told"`, "pointsman rollout end api", "old nodes not touched")
		w.mustRun(map[string]int{"1.0": 2})
		if len(got.Undone) != 2 || len(got.Stopped) != 0 || r.ended {
			t.Errorf("got %+v, ended %v", got, r.ended)
		}
	})
}

// The rollout is taken up, and so are its nodes.
func TestCanary_TakenUpAndAborted_NodesOfTheRunBeforeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.add("api-1.1-before-0", "1.1", time.Now())
		r := newRollout(w, 5, 50, 100)
		r.is.State, r.ends[50] = Walking, RolloutAborted
		r.goTo(5)
		w.mustBe(w.deploy(t.Context(), order()), Aborted)
		w.mustCall("stop api-1.1-before-0 undo=true last=false missing=0")
	})
}

// A load balancer whose old servers take nothing would be without any.
func TestCanary_AbortedButOldOnesTakeNoTraffic_NewOnesLeftAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		r := newRollout(w, 50, 100)
		r.ends[50] = RolloutAborted
		w.after(2*time.Second, func() {
			for _, n := range w.nodes {
				if n.Version == "1.0" {
					n.healthy = time.Time{}
				}
			}
		})
		w.least = 0
		got := w.deploy(t.Context(), order(func(o *Order) { o.Timeout = 8 * time.Second }))
		w.mustBe(got, Aborted, "lb0 has no node of the old version that takes traffic", "the new nodes are left running", "api-1.1-xyz-0 runs")
		w.mustCall("start 1 of 1", "rollout starts")
	})
}

func TestCanary_Paused_WaitedForAndThenLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 100)
		r.ends[5] = RolloutPaused
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.PauseTimeout = time.Hour })), Paused, "paused at 5%", "pointsman rollout status api", "run the command again")
		if took := time.Since(begun); took < time.Hour {
			t.Errorf("it waited for %s, want an hour", took)
		}
		w.mustRun(map[string]int{"1.0": 1, "1.1": 1})

		// The next run goes on with it, once it is resumed.
		r.ends, w.calls = map[int]RolloutState{}, nil
		w.after(20*time.Minute, func() { r.is.State, r.is.StepAt = Walking, time.Now() })
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.PauseTimeout = time.Hour })), Deployed)
		w.mustCall("stop old-0 undo=false last=true missing=0")
	})
}

func TestCanary_NotMoved_LeftAfterItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		newRollout(w, 5).is.Next = 5 // and no next step
		w.mustBe(w.deploy(t.Context(), order()), Paused, "no sidecar has moved it for 661.0s")
	})
}

func TestCanary_NewOnesDoNotBecomeHealthy_AbortedBeforeTheFirstStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.bad["1.1"] = true
		r := newRollout(w, 5, 100)
		w.mustBe(w.deploy(t.Context(), order()), Failed, "lb0 has 0 of 2 of 1.1 live")
		w.mustRun(map[string]int{"1.0": 2})
		if fmt.Sprint(r.aborts) != "[the new nodes did not become live]" {
			t.Errorf("aborts: %v", r.aborts)
		}
	})
}

// Nodes of a version that a load balancer would give traffic at once are not started.
func TestCanary_LoadBalancerWouldGiveItTraffic_NothingStarts(t *testing.T) {
	for words, change := range map[string]func(*rollout){
		"lb1 does not know of the rollout":                          func(r *rollout) { r.blind = "lb1" },
		`lb1 takes no other shares than 0 and 100: "balance source`: func(r *rollout) { r.fixed = "balance source has no weights" },
		`lb0 does not apply the rollout: "an invalid one`:           func(r *rollout) { r.unapplied = "an invalid one" },
		"a rollout of 1.0.9 is running, by bob@ops2: promote or abort": func(r *rollout) {
			r.fails = errors.New("a rollout of 1.0.9 is running, by bob@ops2: promote or abort it first")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "1.0", 2, "lb0", "lb1")
			change(newRollout(w, 5, 100))
			w.mustBe(w.deploy(t.Context(), order()), Failed, words)
			w.mustCall()
		})
	}
}

func TestCanary_SharesNoLongerApplied_Aborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 50, 100)
		w.after(15*time.Second, func() { r.unapplied = "balance source" })
		w.mustBe(w.deploy(t.Context(), order()), Aborted, "lb0 does not apply the shares: balance source")
		w.mustRun(map[string]int{"1.0": 1})
	})
}

func TestCanary_NothingToCompareWith_RefusedOrDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.1", 2, "lb0")
		r := newRollout(w, 5, 100)
		r.is.State, r.is.Share = Promoted, 100
		w.mustBe(w.deploy(t.Context(), order()), Already)
		if !r.ended {
			t.Error("its rollout is not ended")
		}
		w.mustBe(w.deploy(t.Context(), order(count(3))), Refused, "nothing to compare a canary with")
		w.add("old-9", "0.9", time.Now())
		w.add("old-8", "1.0", time.Now())
		w.mustBe(w.deploy(t.Context(), order()), Refused, `more than one other version run ("0.9", "1.0")`)
		w.mustCall()
	})
}

func TestCanary_Interrupted_SaysWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		newRollout(w, 5, 100)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(errors.New("interrupted: interrupt")) })
		w.mustBe(w.deploy(ctx, order()), Interrupted, "sidecars move it while it is running", "pointsman rollout status api")
		w.mustRun(map[string]int{"1.0": 1, "1.1": 1})
	})
}

// Promoted, and then a new node is lost: nothing is stopped, and the way back is named.
func TestCanary_LostAfterPromotion_OldOnesKeptAndTheWayBackNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		newRollout(w, 50, 100)
		w.after(13*time.Second, func() {
			for _, n := range w.nodes {
				if n.Version == "1.1" {
					n.healthy = time.Time{}
				}
			}
		})
		r := w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = 10 * time.Second }))
		w.mustBe(r, Halfway, "pointsman rollout undo api")
		if strings.Contains(strings.Join(w.calls, " "), "stop") {
			t.Errorf("calls: %v", w.calls)
		}
	})
}

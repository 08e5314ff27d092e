package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	silent    map[string]int       // how often a change is made and its answer lost, by name; below 0: it is not made either
	unapplied string
	fixed     string
	ended     bool
	seen      func(Rollout) // before it is seen; may be nil
	aborts    []string
	wobbles   bool   // the share of 1.1 is half a point more each other time
	views     int    // number of times that it was looked at
	blind     string // a load balancer that does not see it
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
		w.mustBe(got, Aborted, `the rollout was aborted by "ann@ops1": "by this test"`, "pointsman rollout end api", "old nodes not touched")
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
		w.mustBe(got, Halfway, "lb0 has no node of the old version that takes traffic", "the new nodes are left running", "api-1.1-xyz-0 runs", "nodes of 1.1 run without traffic: stop them")
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
		w.mustBe(r, Halfway, "go back by: pointsman rollout abort api")
		if strings.Contains(strings.Join(w.calls, " "), "stop") {
			t.Errorf("calls: %v", w.calls)
		}
	})
}

// An operator aborts it while the new nodes are watched after the promotion.
func TestCanary_AbortedAfterPromotion_NewOnesStoppedAndOldOnesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		r := newRollout(w, 50, 100)
		w.after(14*time.Second, func() { r.is.State, r.is.Share, r.is.Reason = RolloutAborted, 0, "too loud" })
		got := w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = 10 * time.Second }))
		w.mustBe(got, Aborted, `the rollout was aborted by "ann@ops1": "too loud"`, "1.1 keeps share 0")
		w.mustRun(map[string]int{"1.0": 2})
		if len(got.Undone) != 2 || len(got.Stopped) != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// The document says that the rollout is aborted, and no load balancer has followed yet.
func TestCanary_AbortedAfterPromotionAndLoadBalancersLate_NothingStopped(t *testing.T) {
	for name, minHealthy := range map[string]time.Duration{"while watched": 3 * time.Second, "before the first stop": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 2, "lb0")
				r := newRollout(w, 50, 100)
				r.seen = func(is Rollout) {
					if is.State == Promoted {
						w.after(100*time.Millisecond, func() { r.late, r.is.State, r.is.Share, r.is.Reason = true, RolloutAborted, 0, "too loud" })
					}
				}
				// What is listed after the promotion takes until the abort has come.
				w.slowList = 300 * time.Millisecond
				got := w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = minHealthy }))
				w.mustBe(got, Halfway, `the rollout was aborted by "ann@ops1": "too loud"`, `lb0 still sends requests to "api-1.1-xyz-0"`, "the new nodes are left running")
				w.mustRun(map[string]int{"1.0": 2, "1.1": 2})
				w.mustCall("start 2 of 2", "rollout starts")
			})
		})
	}
}

// The old ones stop one after another, and the abort comes between them.
func TestCanary_AbortedWhileOldOnesStop_RestIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0")
		w.oneByOne, w.least = true, 0
		r := newRollout(w, 50, 100)
		w.after(14*time.Second, func() { r.is.State, r.is.Share, r.is.Reason = RolloutAborted, 0, "too loud" })
		got := w.deploy(t.Context(), order())
		w.mustBe(got, Halfway, `the rollout was aborted by "ann@ops1": "too loud"`, "1.1 keeps share 0, and old nodes were told to stop: deploy 1.0 again")
		if len(got.Stopped) == 0 || len(got.Stopped) == 3 || len(got.Undone) > 0 {
			t.Errorf("stopped %v, undone %v; want some old ones and no new ones", got.Stopped, got.Undone)
		}
	})
}

// The last old node is drained, and then the new ones lose the traffic.
func TestCanary_AbortedAtTheEnd_NamedBesideTheLostNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 50, 100)
		w.least = 0
		w.stepped = func(s Step) {
			if s.Name == "confirm" {
				r.is.State, r.is.Share, r.is.Reason = RolloutAborted, 0, "too loud"
			}
		}
		got := w.deploy(t.Context(), order())
		w.mustBe(got, Halfway, `"api-1.1-xyz-0" was live, but is no longer`, `the rollout was aborted by "ann@ops1": "too loud"`, "deploy 1.0 again")
		if strings.Count(got.Error(), "the rollout was aborted") != 1 {
			t.Errorf("said more than once: %s", got.Error())
		}
	})
}

// After the promotion an operator ends the rollout, or shares the traffic again.
func TestCanary_ReplacedAfterPromotion_NothingStopped(t *testing.T) {
	for words, is := range map[string]Rollout{
		`it was ended or replaced by "bob@ops2"`:                {State: RolloutReplaced, By: "bob@ops2"},
		`it is paused at 50% by "bob@ops2" since its promotion`: {State: RolloutPaused, Share: 50, By: "bob@ops2"},
	} {
		t.Run(words, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 2, "lb0")
				r := newRollout(w, 50, 100)
				w.after(14*time.Second, func() { r.is = is })
				w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = 10 * time.Second })), Paused, words)
				w.mustCall("start 2 of 2", "rollout starts")
			})
		})
	}
}

// The first try meets a change by others, or gets no answer.
func TestCanary_AbortFailsAtFirst_TriedAgain(t *testing.T) {
	for name, tries := range map[string]int{"changed meanwhile": -2, "answers lost": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 1, "lb0")
				r := newRollout(w, 5, 50, 100)
				r.silent = map[string]int{"abort": tries}
				w.after(8*time.Second, func() { r.unapplied = "balance source" })
				w.mustBe(w.deploy(t.Context(), order()), Aborted, "lb0 does not apply the shares: balance source")
				w.mustRun(map[string]int{"1.0": 1})
			})
		})
	}
}

func TestCanary_LoadBalancerLosesTheRollout_Aborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		r := newRollout(w, 5, 50, 100)
		r.is.Interval = time.Minute
		begun := time.Now()
		w.after(8*time.Second, func() { r.blind = "lb1" })
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb1 does not know of the rollout")
		if took := r.is.StepAt.Sub(begun); took > 30*time.Second {
			t.Errorf("the last step began after %s: it went on", took)
		}
		if fmt.Sprint(r.aborts) != "[lb1 does not know of the rollout]" {
			t.Errorf("aborts: %v", r.aborts)
		}
	})
}

// A sidecar that is restarted has no rollout for a moment.
func TestCanary_LoadBalancerWithoutRolloutForSeconds_GoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		r := newRollout(w, 5, 50, 100)
		w.after(8*time.Second, func() { r.blind = "lb1" })
		w.after(17*time.Second, func() { r.blind = "" })
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		w.saidOnce("1.1 has 50% on lb0, 50% on lb1")
	})
}

func TestCanary_UnreachableLoadBalancer_IsNoShareOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		newRollout(w, 5, 50, 100).is.Interval = 20 * time.Second
		away := func(err error) func() { return func() { w.lbs["lb1"].mute = err } }
		w.after(8*time.Second, away(errors.New("connection refused")))
		w.after(35*time.Second, away(nil))
		var troubles []string
		w.shown = func(bars []Bar) {
			for _, b := range bars {
				if b.Trouble != "" && !slices.Contains(troubles, b.Name+" "+b.Trouble) {
					troubles = append(troubles, b.Name+" "+b.Trouble)
				}
			}
		}
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		w.saidOnce("1.1 has 5% on lb0, 5% on lb1")
		w.saidOnce("1.1 has 50% on lb0") // when both have answered
		w.saidOnce("1.1 has 50% on lb0, 50% on lb1")
		if fmt.Sprint(troubles) != "[lb1 connection refused]" {
			t.Errorf("troubles: %v", troubles)
		}
	})
}

// It comes during the walk, and gives the new version more than its share.
func TestCanary_LoadBalancerWithoutTheRolloutComes_Aborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 50, 100)
		r.is.Interval, r.blind = time.Minute, "lb9"
		w.after(8*time.Second, func() { w.lbs["lb9"] = &lb{name: "lb9", url: "http://lb9", routes: true} })
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb9 does not know of the rollout")
	})
}

// It comes with the abort, has every node of the old version down and is asked, too.
func TestCanary_AbortedAndALoadBalancerHasCome_NewOnesLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 50, 100)
		r.ends[50] = RolloutAborted
		r.seen = func(is Rollout) {
			if is.State == RolloutAborted {
				w.lbs["lb9"] = &lb{name: "lb9", url: "http://lb9", routes: true, blind: true}
			}
		}
		got := w.deploy(t.Context(), order(func(o *Order) { o.Timeout = 8 * time.Second }))
		w.mustBe(got, Halfway, "lb9 has no node of the old version that takes traffic")
		w.mustRun(map[string]int{"1.0": 1, "1.1": 1})
	})
}

// The next run takes up its rollout and starts the node that is missing, in vain.
func TestCanary_TakenUpAndNodeDoesNotComeUp_Aborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.add("api-1.1-before-0", "1.1", time.Now())
		w.bad["1.1"] = true
		r := newRollout(w, 5, 50, 100)
		r.is.State, r.is.Interval = Walking, time.Hour
		r.goTo(5)
		w.stopTakes = 100 * time.Millisecond // Consul still lists what has stopped
		got := w.deploy(t.Context(), order())
		w.mustBe(got, Aborted, "lb0 has 1 of 2 of 1.1 live", "the rollout was aborted: the new nodes did not become live")
		w.mustCall("start 1 of 2", "stop api-1.1-xyz-1 undo=true last=false missing=0", "stop api-1.1-before-0 undo=true last=false missing=0")
		w.mustRun(map[string]int{"1.0": 2})
	})
}

func TestCanary_TakenUpAndNotAborted_SaysThatItWalksOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.add("api-1.1-before-0", "1.1", time.Now())
		w.bad["1.1"] = true
		r := newRollout(w, 5, 50, 100)
		r.is.State, r.is.Interval = Walking, time.Hour
		r.goTo(5)
		r.silent = map[string]int{"abort": -1000}
		got := w.deploy(t.Context(), order())
		w.mustBe(got, Failed, "pointsman rollout status api, end it by rollout abort")
		if fmt.Sprint(got.Warnings) != "[rollout not aborted: no answer within 20.0s: changed meanwhile by lb0]" {
			t.Errorf("warnings: %q", got.Warnings)
		}
	})
}

// It has walked to the end while the missing node was waited for.
func TestCanary_TakenUpAndPromotedMeanwhile_OldOnesKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.add("api-1.1-before-0", "1.1", time.Now())
		w.bad["1.1"] = true
		r := newRollout(w, 5, 100)
		r.is.State = Walking
		r.goTo(5)
		w.after(15*time.Second, func() { r.goTo(100) })
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb0 has 1 of 2 of 1.1 live", "1.1 has all traffic and the old nodes run")
		w.mustCall("start 1 of 2", "stop api-1.1-xyz-1 undo=true last=false missing=0")
	})
}

func TestCanary_AnswersLost_ChangesMadeOnce(t *testing.T) {
	for _, change := range []string{"prepare", "start", "end"} {
		for _, tries := range []int{2, -2} {
			t.Run(fmt.Sprint(change, tries), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "1.0", 1, "lb0")
					r := newRollout(w, 5, 50, 100)
					r.silent = map[string]int{change: tries}
					got := w.deploy(t.Context(), order())
					w.mustBe(got, Deployed)
					w.mustCall("start 1 of 1", "rollout starts", "stop old-0 undo=false last=true missing=0")
					if len(got.Warnings) > 0 || !r.ended {
						t.Errorf("warnings %q, ended %v", got.Warnings, r.ended)
					}
				})
			})
		}
	}
}

func TestCanary_StartNeverAnswered_SaysWhatMayGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		newRollout(w, 5, 50, 100).silent = map[string]int{"start": 1000}
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "no answer within 20.0s: consul: no answer to start", "pointsman rollout status api")
	})
}

// An operator takes it back to the start: rollout set 1.1=0, or undo at the first step.
func TestCanary_SetToZeroMeanwhile_WaitedForAsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 50, 100)
		set := func() { r.is = Rollout{State: Prepared, Next: 5, By: "bob@ops2", Interval: 10 * time.Second} }
		w.after(8*time.Second, set)
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.PauseTimeout = time.Hour })), Paused, `paused at 0% by "bob@ops2"`)
		if took := time.Since(begun); took < time.Hour {
			t.Errorf("it waited for %s, want an hour", took)
		}
		w.saidOnce(`canary paused by "bob@ops2": 0% of the traffic for 1.1; waiting for rollout start, promote or abort`)

		// It may begin again.
		r.is.State = Walking
		r.goTo(5)
		w.after(8*time.Second, set)
		w.after(20*time.Minute, func() {
			r.is.State = Walking
			r.goTo(5)
		})
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.PauseTimeout = time.Hour })), Deployed)
	})
}

// Its nodes are gone, and new ones must not get all traffic at once.
func TestCanary_PromotedButNoneOfItsNodesRuns_BeginsAgain(t *testing.T) {
	for name, is := range map[string]func(*world){
		"none":    func(*world) {},
		"failing": func(w *world) { w.add("api-1.1-before-0", "1.1", time.Time{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 2, "lb0")
				is(w)
				r := newRollout(w, 5, 100)
				r.is.State, r.is.Share = Promoted, 100
				w.after(3*time.Second, func() {
					for _, n := range w.nodes {
						if n.healthy.IsZero() {
							n.healthy = time.Now()
						}
					}
				})
				w.mustBe(w.deploy(t.Context(), order()), Deployed)
				w.saidOnce("canary running: 5% of the traffic for 1.1")
				w.mustRun(map[string]int{"1.1": 2})
			})
		})
	}
}

// One of its nodes serves: it is taken up.
func TestCanary_PromotedAndANodeRuns_TakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.add("api-1.1-before-0", "1.1", time.Now())
		r := newRollout(w, 5, 100)
		r.is.State, r.is.Share = Promoted, 100
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		w.mustCall("start 1 of 2", "stop old-0,old-1 undo=false last=true missing=0")
	})
}

func TestCanary_AbortedAndNewOnesNotStopped_ExitCodeSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		newRollout(w, 5, 50, 100).ends[5] = RolloutAborted
		w.stopFail["api-1.1-xyz-0"] = errors.New("exit status 1")
		w.mustBe(w.deploy(t.Context(), order()), Halfway, `the rollout was aborted by "ann@ops1"`, "stop after failure: ", "nodes of 1.1 run without traffic: stop them")
	})
}

// Waiting does not help: it says so at once, and what a plain deployment needs first.
func TestCanary_SharesNotPossible_FailsAtOnceWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 50, 100)
		r.fixed = "balance source has no weights"
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order()), Failed, "1.1 keeps share 0: deploy it again with --canary, or without after: pointsman rollout end api")
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		if want := `[lb0 takes no other shares than 0 and 100: "balance source has no weights"]`; fmt.Sprint(r.aborts) != want {
			t.Errorf("aborts: %v, want %s", r.aborts, want)
		}
	})
}

func TestCanary_StartCommandFails_ReasonIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 50, 100)
		w.startFail[0] = errors.New("start api-0: exit status 7")
		w.mustBe(w.deploy(t.Context(), order()), Failed, "exit status 7", "1.1 keeps share 0")
		if fmt.Sprint(r.aborts) != "[start api-0: exit status 7]" {
			t.Errorf("aborts: %v", r.aborts)
		}
	})
}

// The numbers of a comparison are a line each ten seconds, and a share is one each step,
// however often it moves by a point.
func TestCanary_Follows_LinesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 5, 100)
		r.is.Interval, r.is.Numbers = 35*time.Second, "1.1: 40 requests, 0 errors"
		r.wobbles = true
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		lines := strings.Join(w.said, "\n")
		if shares, numbers := strings.Count(lines, "1.1 has 5"), strings.Count(lines, "40 requests"); shares != 1 || numbers != 3 {
			t.Errorf("%d lines of shares, %d of numbers, want 1 and 3:\n%s", shares, numbers, lines)
		}
		if r.views > 60 {
			t.Errorf("%d views were asked for in 37 s", r.views)
		}
	})
}

// A step's text says what this run does at its deadline.
func TestCanary_Steps_NameTheExitCodeOfTheirDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		newRollout(w, 5, 100).ends[5] = RolloutAborted
		w.mustBe(w.deploy(t.Context(), order()), Aborted)
		w.mustWarnOf("wait for share 0", "exit code 1")
		w.mustWarnOf("wait until live", "exit code 1")
		w.mustWarnOf("canary", "exit code 5")
		w.mustWarnOf("wait for the old version", "exit code 4")

		w.steps = nil
		r := newRollout(w, 5, 100)
		r.is.State = Walking
		r.goTo(5)
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.Nonce = "next" })), Deployed)
		w.mustWarnOf("wait until live", "exit code 5", "exit code 4")
	})
}

func TestCanary_InterruptedAfterAnAbort_SaysThatNodesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		r := newRollout(w, 50, 100)
		r.ends[50] = RolloutAborted
		r.seen = func(is Rollout) { r.late = is.State == RolloutAborted } // requests still go to the new node
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(8*time.Second, func() { cancel(errors.New("interrupted: interrupt")) })
		got := w.deploy(ctx, order())
		w.mustBe(got, Interrupted, "1.1 keeps share 0", "stop them")
		if strings.Contains(got.Error(), "sidecars move it") {
			t.Errorf("nothing moves it: %s", got.Error())
		}
	})
}

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
		w.mustBe(got, Aborted, `the rollout was aborted by "ann@ops1": "by this test"`, "pointsman rollout end api", "old instances not touched")
		w.mustRun(map[string]int{"1.0": 2})
		if len(got.Undone) != 2 || len(got.Stopped) != 0 || r.ended {
			t.Errorf("got %+v, ended %v", got, r.ended)
		}
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
		if fmt.Sprint(r.aborts) != "[the new instances did not become live]" {
			t.Errorf("aborts: %v", r.aborts)
		}
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
		w.mustBe(w.deploy(t.Context(), order(count(3))), Refused, "nothing to shift traffic from: deploy without --canary")
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
		w.mustBe(w.deploy(ctx, order()), Interrupted, "continues without this command while its state is running", "pointsman rollout status api")
		w.mustRun(map[string]int{"1.0": 1, "1.1": 1})
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

func TestCanary_AbortedAndNewOnesNotStopped_ExitCodeSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		newRollout(w, 5, 50, 100).ends[5] = RolloutAborted
		w.stopFail["api-1.1-xyz-0"] = errors.New("exit status 1")
		w.mustBe(w.deploy(t.Context(), order()), Halfway, `the rollout was aborted by "ann@ops1"`, "stop after failure: ", "instances of 1.1 run without traffic: stop them")
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

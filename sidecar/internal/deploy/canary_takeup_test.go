package deploy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

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
		w.mustBe(got, Aborted, "lb0 has 1 of 2 of 1.1 live", "the rollout was aborted: the new instances did not become live")
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
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb0 has 1 of 2 of 1.1 live", "1.1 has all traffic and the old instances run")
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

package deploy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
				w.mustBe(got, Halfway, `the rollout was aborted by "ann@ops1": "too loud"`, `lb0 still sends requests to "api-1.1-xyz-0"`, "the new instances are left running")
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
		w.mustBe(got, Halfway, `the rollout was aborted by "ann@ops1": "too loud"`, "1.1 keeps share 0, and old instances got the stop command: deploy 1.0 again")
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

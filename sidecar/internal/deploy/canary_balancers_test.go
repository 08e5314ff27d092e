package deploy

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

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
		w.mustBe(got, Halfway, "lb0 has no instance of the old version that takes traffic", "the new instances are left running", "api-1.1-xyz-0 runs", "instances of 1.1 run without traffic: stop them")
		w.mustCall("start 1 of 1", "rollout starts")
	})
}

// Nodes of a version that a load balancer would give traffic at once are not started.
func TestCanary_LoadBalancerWouldGiveItTraffic_NothingStarts(t *testing.T) {
	for words, change := range map[string]func(*rollout){
		"lb1 has not read the rollout":                              func(r *rollout) { r.blind = "lb1" },
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

func TestCanary_LoadBalancerLosesTheRollout_Aborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		r := newRollout(w, 5, 50, 100)
		r.is.Interval = time.Minute
		begun := time.Now()
		w.after(8*time.Second, func() { r.blind = "lb1" })
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb1 has not read the rollout")
		if took := r.is.StepAt.Sub(begun); took > 30*time.Second {
			t.Errorf("the last step began after %s: it went on", took)
		}
		if fmt.Sprint(r.aborts) != "[lb1 has not read the rollout]" {
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
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb9 has not read the rollout")
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
		w.mustBe(got, Halfway, "lb9 has no instance of the old version that takes traffic")
		w.mustRun(map[string]int{"1.0": 1, "1.1": 1})
	})
}

package deploy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newBlueGreen(t *testing.T, b BlueGreen, lbs ...string) (*world, *rollout) {
	w := newWorld(t, "1.0", 2, lbs...)
	w.blueGreen = &b
	r := newRollout(w, 100)
	return w, r
}

// goBack is what `rollout undo` leaves.
func (r *rollout) goBack() { r.is.State, r.is.Share, r.is.Next = Prepared, 0, 100 }

func (r *rollout) abort() { r.is.State, r.is.Share, r.is.Reason = RolloutAborted, 0, "too loud" }

// The new nodes are watched without traffic, then get all of it by one change; the old
// ones are stopped after the time.
func TestBlueGreen_Good_SwitchedAndOldOnesKeptForTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newBlueGreen(t, BlueGreen{Keep: 10 * time.Minute}, "lb0", "lb1")
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = 7 * time.Second })), Deployed)
		w.mustRun(map[string]int{"1.1": 2})
		w.mustCall("start 2 of 2", "switch", "stop old-0,old-1 undo=false last=true missing=0")
		if took := r.is.At.Sub(begun); took < 7*time.Second || took > 20*time.Second {
			t.Errorf("switched after %s, want once they were watched for 7s", took)
		}
		if took := time.Since(r.is.At); took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("the old ones ran for %s after it, want 10m", took)
		}
		w.saidOnce("1.1 has all traffic on 2 load balancers, after 0.0s")
		if !r.ended {
			t.Error("the rollout has not ended")
		}
	})
}

func TestBlueGreen_NotHealthy_NotSwitched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newBlueGreen(t, BlueGreen{}, "lb0")
		w.bad["1.1"] = true
		w.mustBe(w.deploy(t.Context(), order()), Failed, "lb0 has 0 of 2 of 1.1 live")
		w.mustRun(map[string]int{"1.0": 2})
		if len(r.aborts) != 1 {
			t.Errorf("aborts: %v", r.aborts)
		}
	})
}

// An operator decides in the preview, or goes back after the switch.
func TestBlueGreen_OperatorDecides(t *testing.T) {
	const preview, keep = 30 * time.Minute, 10 * time.Minute
	stopped := "stop api-1.1-xyz-0,api-1.1-xyz-1 undo=true last=false missing=0"
	for name, c := range map[string]struct {
		preview time.Duration
		at      time.Duration
		do      func(*rollout)
		want    Outcome
		says    string
		runs    map[string]int
		calls   []string
	}{
		"switched by promote": {
			preview, 20 * time.Minute, func(r *rollout) { r.is.State, r.is.Share, r.is.At = Promoted, 100, time.Now() },
			Deployed, "",
			map[string]int{"1.1": 2},
			[]string{"start 2 of 2", "stop old-0,old-1 undo=false last=true missing=0"},
		},
		"aborted in the preview": {
			preview, 20 * time.Minute, (*rollout).abort,
			Aborted, `aborted by "ann@ops1": "too loud"`,
			map[string]int{"1.0": 2},
			[]string{"start 2 of 2", stopped},
		},
		"no operator decides": {
			preview, 20 * time.Minute, func(*rollout) {},
			Paused, "not switched within 1800.0s",
			map[string]int{"1.0": 2, "1.1": 2},
			[]string{"start 2 of 2"},
		},
		"shared in the preview": {
			preview, 20 * time.Minute, func(r *rollout) { r.is.State, r.is.Share = RolloutPaused, 5 },
			Paused, `"ann@ops1" has shared the traffic: it is paused at 5%`,
			map[string]int{"1.0": 2, "1.1": 2},
			[]string{"start 2 of 2"},
		},
		"replaced in the preview": {
			preview, 20 * time.Minute, func(r *rollout) { r.is.State = RolloutReplaced },
			Paused, "it was ended or replaced by",
			map[string]int{"1.0": 2, "1.1": 2},
			[]string{"start 2 of 2"},
		},
		"undone": {
			0, 5 * time.Minute, (*rollout).goBack,
			Paused, `"ann@ops1" went back to the old version`,
			map[string]int{"1.0": 2, "1.1": 2},
			[]string{"start 2 of 2", "switch"},
		},
		"aborted after the switch": {
			0, 5 * time.Minute, (*rollout).abort,
			Aborted, `aborted by "ann@ops1": "too loud"`,
			map[string]int{"1.0": 2},
			[]string{"start 2 of 2", "switch", stopped},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newBlueGreen(t, BlueGreen{Preview: c.preview, Keep: keep}, "lb0", "lb1")
				begun := time.Now()
				w.after(c.at, func() { c.do(r) })
				got := w.deploy(t.Context(), order())
				w.mustBe(got, c.want, c.says)
				if took := time.Since(begun); c.preview == 0 && took > c.at+30*time.Second {
					t.Errorf("it ended after %s, want soon after %s", took, c.at)
				}
				w.mustRun(c.runs)
				w.mustCall(c.calls...)
				if c.want == Paused && !strings.Contains(got.Error(), "run the command again to continue and switch to 1.1, or end it by rollout abort api") {
					t.Errorf("it does not say how to go on: %s", got.Error())
				}
			})
		})
	}
}

// The clock of the operator who promotes is wrong: the old nodes run for --keep all the same.
func TestBlueGreen_PromotedByAWrongClock_OldOnesKeptForTheTime(t *testing.T) {
	for _, wrong := range []time.Duration{-12 * time.Minute, -5 * time.Minute, 12 * time.Minute} {
		for name, at := range map[string]time.Duration{"in the preview": 20 * time.Minute, "before it": 2 * time.Second} {
			t.Run(fmt.Sprint(name, " ", wrong), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, r := newBlueGreen(t, BlueGreen{Preview: 30 * time.Minute, Keep: 10 * time.Minute}, "lb0", "lb1")
					begun := time.Now()
					w.after(at, func() { r.is.State, r.is.Share, r.is.At = Promoted, 100, time.Now().Add(wrong) })
					w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy = 7 * time.Second })), Deployed)
					if took := time.Since(begun) - at; took < 10*time.Minute || took > 11*time.Minute {
						t.Errorf("the old ones ran for %s after the switch, want 10m", took)
					}
				})
			})
		}
	}
}

// Consul does not answer in the last seconds of the preview.
func TestBlueGreen_PromotedInTheLastSecondsUnseen_Deployed(t *testing.T) {
	for name, isPromoted := range map[string]bool{"promoted": true, "not promoted": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newBlueGreen(t, BlueGreen{Preview: time.Minute}, "lb0")
				w.stepped = func(s Step) {
					if s.Name != "preview" {
						return
					}
					w.after(57*time.Second, func() { r.mute = true })
					w.after(58*time.Second, func() {
						if isPromoted {
							r.is.State, r.is.Share, r.is.At = Promoted, 100, time.Now()
						}
					})
					w.after(61*time.Second, func() { r.mute = false })
				}
				if got := w.deploy(t.Context(), order()); isPromoted {
					w.mustBe(got, Deployed)
				} else {
					w.mustBe(got, Paused, "not switched within 60.0s")
				}
			})
		})
	}
}

// One load balancer does not follow: no old node is stopped, and the way back is named.
func TestBlueGreen_LoadBalancerDoesNotSwitch_OldOnesNotStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newBlueGreen(t, BlueGreen{Keep: time.Minute}, "lb0", "lb1")
		w.stepped = func(s Step) {
			if s.Name == "switch" {
				r.stuck = "lb1"
			}
		}
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "lb1 gives 1.1 0% of the traffic", "1.1 has all traffic and the old instances run: run the command again to continue, or go back by: pointsman rollout abort api")
		w.mustRun(map[string]int{"1.0": 2, "1.1": 2})
		w.mustCall("start 2 of 2", "switch")
	})
}

// Killed at each step, the same command goes on from there, and starts and switches
// nothing twice. The time that old nodes are kept goes on from the switch.
func TestBlueGreen_Killed_NextRunGoesOn(t *testing.T) {
	for _, at := range []string{"wait for share 0", "start", "wait until live", "watch", "preview", "switch", "keep", "stop", "wait until drained", "confirm"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newBlueGreen(t, BlueGreen{Keep: 10 * time.Minute}, "lb0", "lb1")
				if at == "preview" {
					w.blueGreen.Preview = time.Minute
				}
				ctx, kill := context.WithCancel(t.Context())
				w.stepped = func(s Step) {
					if s.Name == at {
						go func() {
							time.Sleep(time.Second)
							kill()
						}()
					}
				}
				_ = w.deploy(ctx, order(func(o *Order) { o.MinHealthy = 3 * time.Second }))
				w.stepped, w.blueGreen.Preview = nil, 0
				time.Sleep(4 * time.Minute)
				got := w.deploy(t.Context(), order(func(o *Order) { o.MinHealthy, o.Nonce = 3*time.Second, "abc" }))
				if got.Outcome != Deployed && got.Outcome != Already {
					t.Fatalf("the next run: %s", got.Error())
				}
				w.mustRun(map[string]int{"1.1": 2})
				switches := 0
				for _, c := range w.calls {
					if c == "switch" {
						switches++
					}
				}
				if switches != 1 {
					t.Errorf("switched %d times: %v", switches, w.calls)
				}
				if took := time.Since(r.is.At); at != "stop" && at != "wait until drained" && at != "confirm" && (took < 10*time.Minute || took > 11*time.Minute) {
					t.Errorf("the old ones ran for %s after the switch, want 10m", took)
				}
			})
		})
	}
}

func TestBlueGreen_OptionsWithoutCanary_Refused(t *testing.T) {
	w := newWorld(t, "1.0", 1, "lb0")
	for _, b := range []BlueGreen{{}, {Keep: -1}, {Preview: -1}} {
		o := Options{Order: order(), Catalog: w, Balancers: w, Nodes: w, BlueGreen: &b}
		if b != (BlueGreen{}) {
			o.Canary = &rollout{}
		}
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", b)
		}
	}
}

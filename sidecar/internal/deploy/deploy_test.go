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

func count(n int) func(*Order)      { return func(o *Order) { o.Count = n } }
func batch(n int) func(*Order)      { return func(o *Order) { o.Batch = n } }
func redeploy(o *Order)             { o.Redeploy = true }
func version(v string) func(*Order) { return func(o *Order) { o.Version = v } }

func TestAVersionTakesThePlaceOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0", "lb1")
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Deployed, "api 1.1 deployed: live on 2 load balancers")
		w.mustRun(map[string]int{"1.1": 3})
		w.mustCall("start 3 of 3", "stop old-0,old-1,old-2 undo=false last=true missing=0")
		if got := fmt.Sprint(r.LoadBalancers); got != "[{lb0 3 3 3 3  } {lb1 3 3 3 3  }]" {
			t.Errorf("load balancers: got %s", got)
		}
		if r.OldVersion != "1.0" || r.Started != 3 || len(r.Stopped) != 3 || len(r.New) != 3 || len(r.Old) != 0 {
			t.Errorf("got %+v", r)
		}
	})
}

// The recorder of the steps knows what will be replaced before the first step.
func TestStep_TellsWhatIsReplacedBeforeAnythingStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		var steps []Step
		d, err := New(Options{Order: order(), Catalog: w, Balancers: w, Nodes: w, Step: func(s Step) { steps = append(steps, s) }})
		if err != nil {
			t.Fatal(err)
		}
		w.mustBe(d.Run(t.Context()), Deployed)
		for _, s := range steps {
			if s.Name != "check" && s.OldVersion != "1.0" {
				t.Errorf("step %s: old version %q, want 1.0", s.Name, s.OldVersion)
			}
		}
	})
}

func TestItReturnsOnlyWhenEveryLoadBalancerHasDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		w.lbs["lb1"].lag, w.stopTakes = 7*time.Second, 0
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		// Up after 1.3 s, seen 7 s later; drained after a second, seen 7 s later.
		if got := time.Since(begun); got < 16300*time.Millisecond || got > 17*time.Second {
			t.Errorf("returned after %v, want 16.3 s and a little", got)
		}
	})
}

func TestWaves(t *testing.T) {
	for _, c := range []struct {
		name  string
		order Order
		calls []string
	}{
		{"one at a time", order(batch(1)), []string{
			"start 1 of 3", "stop old-0 undo=false last=false missing=0",
			"start 1 of 3", "stop old-1 undo=false last=false missing=0",
			"start 1 of 3", "stop old-2 undo=false last=true missing=0",
		}},
		{"two at a time", order(batch(2)), []string{
			"start 2 of 3", "stop old-0,old-1 undo=false last=false missing=0",
			"start 1 of 3", "stop old-2 undo=false last=true missing=0",
		}},
		{"to more instances", order(batch(2), count(5)), []string{
			"start 2 of 5", "start 2 of 5", "stop old-0,old-1 undo=false last=false missing=0",
			"start 1 of 5", "stop old-2 undo=false last=true missing=0",
		}},
		{"to fewer instances", order(count(1)), []string{"start 1 of 1", "stop old-0,old-1,old-2 undo=false last=true missing=0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 3, "lb0")
				w.least = min(3, max(1, c.order.Count))
				w.mustBe(w.deploy(t.Context(), c.order), Deployed)
				w.mustCall(c.calls...)
			})
		})
	}
}

func TestAVersionThatNeverBecomesHealthyIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.bad["1.1"] = true
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Failed, "lb0 has 0 of 2 of 1.1 live", "lb1 has 0 of 2",
			`"api-1.1-xyz-0": check "http" is critical, its last output "HTTP GET: 500\x1b[2J", after 20.3s`, `"api-1.1-xyz-1" on lb1: phase down, HAProxy's check "L7STS 404: GET /healthz → 404"`,
			"api 1.1 not deployed; old instances not touched")
		w.mustRun(map[string]int{"1.0": 2})
		w.mustCall("start 2 of 2", "stop api-1.1-xyz-0,api-1.1-xyz-1 undo=true last=false missing=0")
		if len(r.Undone) != 2 || len(r.Stopped) != 0 {
			t.Errorf("undone %v, stopped %v, want two and none", r.Undone, r.Stopped)
		}
	})
}

func TestNodesThatDoNotRegisterAreTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.silent = true
		w.mustBe(w.deploy(t.Context(), order()), Failed, "0 of 2 of 1.1 have registered in Consul")
		w.mustCall("start 2 of 2", "stop  undo=true last=false missing=2")
	})
}

func TestNodesThatRegisterAsAnotherVersionAreNamedAndTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.version = "1.0"
		w.mustBe(w.deploy(t.Context(), order()), Failed, `"api-1.1-xyz-0" has registered since, as version "1.0"`)
		w.mustRun(map[string]int{"1.0": 1})
	})
}

func TestALaterWaveThatFailsLeavesTheEarlierOnesLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0")
		w.after(3*time.Second, func() { w.bad["1.1"] = true })
		r := w.deploy(t.Context(), order(batch(1)))
		w.mustBe(r, Halfway, "lb0 has 1 of 2", "old-1, old-2 run")
		w.mustRun(map[string]int{"1.0": 2, "1.1": 1})
	})
}

func TestALoadBalancerThatCannotBeAskedStopsItBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.lbs["lb1"].dead = errors.New("connection refused")
		w.mustBe(w.deploy(t.Context(), order()), Failed, "the load balancer lb1 at http://lb1 unreachable: connection refused")
		w.mustCall()
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.Without = []string{"lb1"} })), Deployed, "live on 1 load balancer")
	})
}

func TestALoadBalancerThatIsNotThereStopsItBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.lbs["lb1"].hidden = true
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.LoadBalancers = 2 })), Failed, "1 load balancer registered in Consul for api (lb0), want 2")
		w.lbs["lb1"].hidden = false
		w.lbs["lb1"].routes = false
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.LoadBalancers = 2 })), Failed, "want 2")
		w.lbs["lb0"].hidden = true
		w.mustBe(w.deploy(t.Context(), order()), Failed, "no load balancer that routes api is registered")
		w.mustCall()
	})
}

// As after Consul has forgotten all.
func TestALoadBalancerThatIsAboutToRegisterIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.lbs["lb0"].hidden, w.lbs["lb1"].hidden = true, true
		w.after(time.Second, func() { w.lbs["lb0"].hidden = false })
		w.after(3*time.Second, func() { w.lbs["lb1"].hidden = false })
		w.mustBe(w.deploy(t.Context(), order(func(o *Order) { o.LoadBalancers = 2 })), Deployed, "live on 2 load balancers")
	})
}

func TestALoadBalancerThatComesMeanwhileCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.lbs["lb1"].hidden, w.lbs["lb1"].lag = true, 5*time.Second
		w.after(200*time.Millisecond, func() { w.lbs["lb1"].hidden = false })
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order()), Deployed, "live on 2 load balancers")
		if got := time.Since(begun); got < 10*time.Second {
			t.Errorf("returned after %v, want the slow one to be waited for", got)
		}
	})
}

func TestALoadBalancerThatDies(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		back  time.Duration // time after which it comes back; 0: never
		want  Outcome
		texts []string
		run   map[string]int
	}{
		{"before the new ones are live", time.Second, 0, Failed, []string{"lb1 unreachable: connection refused"}, map[string]int{"1.0": 2}},
		{"and comes back", time.Second, 5 * time.Second, Deployed, nil, map[string]int{"1.1": 2}},
		{"while the old ones stop", 2 * time.Second, 0, Halfway, []string{`"old-0" on lb1: lb1 unreachable: connection refused`}, map[string]int{"1.1": 2}},
		{"while the old ones stop, and comes back", 2 * time.Second, 5 * time.Second, Deployed, nil, map[string]int{"1.1": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 2, "lb0", "lb1")
				w.after(c.after, func() { w.lbs["lb1"].dead = errors.New("connection refused") })
				if c.back > 0 {
					w.after(c.after+c.back, func() { w.lbs["lb1"].dead = nil })
				}
				w.mustBe(w.deploy(t.Context(), order()), c.want, c.texts...)
				w.mustRun(c.run)
				synctest.Wait()
			})
		})
	}
}

// What the first has said may no longer hold when the last one says it.
func TestAllLoadBalancersHaveThemLiveAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.lbs["lb1"].lag = 5 * time.Second
		w.after(3*time.Second, func() { w.lbs["lb0"].blind = true })
		w.after(12*time.Second, func() { w.lbs["lb0"].blind = false })
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
	})
}

func TestALoadBalancersSidecarThatMovesIsFoundAgain(t *testing.T) {
	for _, at := range []time.Duration{0, time.Second, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "1.0", 2, "lb0")
			w.lbs["lb0"].url = "http://before"
			w.after(at, func() { w.lbs["lb0"].dead = errors.New("connection refused") })
			w.after(at+2*time.Second, func() { w.lbs["lb0"].dead, w.lbs["lb0"].url = nil, "http://after" })
			if at == 0 {
				synctest.Wait()
			}
			w.mustBe(w.deploy(t.Context(), order()), Deployed)
		})
	}
}

func TestALoadBalancerThatStopsRoutingTheServiceHasDrained(t *testing.T) {
	for _, at := range []time.Duration{time.Second, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "1.0", 2, "lb0", "lb1")
			w.drainTakes = 5 * time.Second
			w.after(at, func() { w.lbs["lb1"].routes = false })
			w.mustBe(w.deploy(t.Context(), order()), Deployed)
		})
	}
}

func TestNewNodesThatAreThereCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		for _, id := range []string{"new-0", "new-1", "new-2"} {
			w.add(id, "1.1", time.Now())
		}
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Deployed)
		if r.Count != 3 || r.LoadBalancers[0].Want != 3 || r.Started != 0 {
			t.Errorf("got %+v, want all three counted and none started", r)
		}
	})
}

func TestConsulAwayForAWhileEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.after(time.Second, func() { w.consul = errors.New("connection refused") })
		w.after(15*time.Second, func() { w.consul = nil })
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		w.mustRun(map[string]int{"1.1": 2})
	})
}

func TestConsulAwayAtTheStartStopsItBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.consul = errors.New("connection refused")
		w.mustBe(w.deploy(t.Context(), order()), Failed, "no answer from Consul about api within 10.0s: connection refused")
		w.mustCall()
	})
}

func TestAStartCommandThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0")
		w.startFail[1] = errors.New(`start 1: exit status 7, after 0.3s; its last output: "no room"`)
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Failed, "exit status 7", "no room")
		w.mustRun(map[string]int{"1.0": 3})
		w.mustCall("start 3 of 3", "stop api-1.1-xyz-0,api-1.1-xyz-2 undo=true last=false missing=1")
	})
}

func TestAStopCommandThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0")
		w.stopFail["old-1"] = errors.New("exit status 5")
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Halfway, `stop "old-1": exit status 5`, "old-1 runs")
		w.mustRun(map[string]int{"1.0": 1, "1.1": 3})

		// Run again, it goes on with what is left.
		delete(w.stopFail, "old-1")
		w.calls = nil
		w.mustBe(w.deploy(t.Context(), order()), Deployed)
		w.mustCall("stop old-1 undo=false last=true missing=0")
	})
}

func TestAStopCommandThatFailsForAGoneInstanceIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.stopFail["old-1"] = errors.New("no such container")
		w.after(2*time.Second, func() {
			n := w.nodes[Key{"old-1", "n"}]
			n.left, n.gone = time.Now(), time.Now()
		})
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Deployed)
		if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no such container") {
			t.Errorf("warnings: got %q, want one of the container", r.Warnings)
		}
	})
}

func TestAStopCommandThatStopsNothingIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.stopLies = true
		w.mustBe(w.deploy(t.Context(), order()), Halfway, `"old-0" on lb0: not drained: phase up, 3 sessions, after 20.0s`)
	})
}

func TestNewNodesThatCannotBeStoppedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.bad["1.1"] = true
		w.stopFail["api-1.1-xyz-0"] = errors.New("exit status 5")
		w.mustBe(w.deploy(t.Context(), order()), Halfway, `stop after failure: stop "api-1.1-xyz-0": exit status 5`)
		w.mustRun(map[string]int{"1.0": 1, "1.1": 1})
	})
}

func TestTheSameVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.1", 3, "lb0", "lb1")
		w.mustBe(w.deploy(t.Context(), order()), Already, "api 1.1 already deployed: 3 live on 2 load balancers; no changes made")
		w.mustCall()
		// The old ones need not be well: that may be why.
		w.nodes[Key{"old-1", "n"}].healthy, w.least = time.Time{}, 2
		w.mustBe(w.deploy(t.Context(), order(redeploy)), Deployed)
		w.mustRun(map[string]int{"1.1": 3})
		w.mustCall("start 3 of 3", "stop old-0,old-1,old-2 undo=false last=true missing=0")
	})
}

func TestTheSameVersionThatDoesNotComeUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.1", 2, "lb0")
		w.bad["1.1"] = true
		w.mustBe(w.deploy(t.Context(), order(redeploy)), Failed, "lb0 has 0 of 2")
		w.mustRun(map[string]int{"1.1": 2})
	})
}

func TestTheFirstDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 0, "lb0")
		w.mustBe(w.deploy(t.Context(), order()), Refused, "no instances of api: give the number of instances with --count")
		w.mustBe(w.deploy(t.Context(), order(count(2))), Deployed)
		w.mustRun(map[string]int{"1.1": 2})
	})
}

func TestAnIDThatNoCommandShouldGetStopsItBeforeItBegins(t *testing.T) {
	for _, id := range []string{"a;reboot", "-rf", "a b", "$(reboot)", "a\nb", "*", ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "1.0", 1, "lb0")
			w.add(id, "1.0", time.Now())
			w.mustBe(w.deploy(t.Context(), order(includeForeign)), Failed, fmt.Sprintf("the old instance %q on \"n\": its ID", id))
			w.mustCall()
		})
	}
}

// Wherever it is interrupted: nothing is undone, it says what runs, and a second
// run brings it to the same end, without telling a node to stop twice.
func TestAnInterruptedDeploymentIsResumed(t *testing.T) {
	for _, o := range []Order{order(), order(batch(1), count(3))} {
		for at := time.Duration(0); at < 12*time.Second; at += 130 * time.Millisecond {
			t.Run(fmt.Sprint("batch ", o.Batch, " at ", at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "1.0", 3, "lb0", "lb1")
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(at, func() { cancel(errors.New("interrupted: SIGINT")) })
					r := w.deploy(ctx, o)
					if r.Outcome == Deployed {
						return
					}
					w.mustBe(r, Interrupted, "interrupted: SIGINT")
					if time.Since(w.begun()) > at+lookTimeout {
						t.Errorf("ended after %v", time.Since(w.begun()))
					}
					if got := len(r.New) + len(r.Old); at > 0 && got < 3 {
						t.Errorf("it tells of %d that run, want 3 at least: %+v", got, r)
					}
					o.Nonce = "abc"
					if r = w.deploy(t.Context(), o); r.Outcome != Deployed && r.Outcome != Already {
						w.mustBe(r, Deployed)
					}
					w.mustRun(map[string]int{"1.1": 3})
				})
			})
		}
	}
}

// begun is when the bubble's clock began.
func (w *world) begun() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestAnInterruptedDeploymentInBatchesWantsToKnowHowManyThereAreToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.add("new-0", "1.1", time.Now())
		w.mustBe(w.deploy(t.Context(), order(batch(1))), Refused, "give the number of instances with --count")
		w.mustCall()
	})
}

func TestAnInterruptedStartCommandLeavesWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.hang = true
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("interrupted: SIGTERM")) })
		w.mustBe(w.deploy(ctx, order()), Interrupted, "old version: old-0, old-1 run", "run the command again to continue")
		w.mustCall("start 2 of 2")
	})
}

// Two nodes may have one ID on two machines: Consul's IDs are unique on a node
// only.
func TestOldAndNewOfOneIDOnTwoMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 0, "lb0", "lb1")
		old := w.add("api", "1.0", time.Now())
		delete(w.nodes, old.Key())
		old.Node = "other"
		w.nodes[old.Key()] = old
		fresh := w.add("api", "1.1", time.Now())
		w.mustBe(w.deploy(t.Context(), order(count(1))), Deployed)
		if old.left.IsZero() || !fresh.left.IsZero() {
			t.Errorf("left: the old one at %v, the new one at %v", old.left, fresh.left)
		}
	})
}

func TestIncludeForeign_OldNodesThatComeMeanwhile_GoToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.after(time.Second, func() {
			w.add("old-back", "1.0", time.Now())
			w.add("other", "2.0", time.Now())
		})
		w.mustBe(w.deploy(t.Context(), order(includeForeign)), Deployed)
		w.mustRun(map[string]int{"1.1": 2, "2.0": 1})
	})
}

func TestAnOrderThatCannotBe(t *testing.T) {
	for text, spoil := range map[string]func(*Order){
		`service "a b": contains the character ' '`: func(o *Order) { o.Service = "a b" },
		`version "": is empty`:                      version(""),
		`version "-x": begins with '-'`:             version("-x"),
		"count -1":                                  count(-1),
		"must be at most 10000":                     count(20000),
		"timeout 0s":                                func(o *Order) { o.Timeout = 0 },
		"is longer than 64 characters":              version(strings.Repeat("1", 65)),
	} {
		w := &world{}
		_, err := New(Options{Order: order(spoil), Catalog: w, Balancers: w, Nodes: w})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want an error with %q", err, text)
		}
	}
}

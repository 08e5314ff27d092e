package deploy

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func minHealthy(d time.Duration) func(*Order) { return func(o *Order) { o.MinHealthy = d } }

// down takes a node out of traffic for a while, or permanently if that is 0.
func (w *world) down(id string, from, lasts time.Duration) {
	w.after(from, func() { w.nodes[Key{id, "n"}].healthy = time.Now().Add(time.Hour) })
	if lasts > 0 {
		w.after(from+lasts, func() { w.nodes[Key{id, "n"}].healthy = time.Now() })
	}
}

// The new instances are live after 1.3 s.
func TestMinHealthy_NewInstanceLost_IsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.down("api-1.1-xyz-1", 5*time.Second, 0)
		w.mustBe(w.deploy(t.Context(), order(minHealthy(10*time.Second))), Failed,
			`"api-1.1-xyz-1" was live, but is no longer`, "lb0 has 1 of 2 of 1.1 live")
		w.mustRun(map[string]int{"1.0": 2})
		w.mustCall("start 2 of 2", "stop api-1.1-xyz-0,api-1.1-xyz-1 undo=true last=false missing=0")
	})
}

func TestMinHealthy_NewInstanceComesBack_TimeBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.down("api-1.1-xyz-1", 8*time.Second, 2*time.Second)
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order(minHealthy(10*time.Second))), Deployed)
		if got := time.Since(begun); got < 20*time.Second {
			t.Errorf("took %v, want 10 s from when it was back, after 10 s", got)
		}
	})
}

func TestMinHealthy_LoadBalancerSilentAtTheEnd_IsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0", "lb1")
		w.after(5*time.Second, func() { w.lbs["lb1"].dead = errors.New("connection refused") })
		w.after(15*time.Second, func() {
			w.lbs["lb1"].dead = nil
			if len(w.calls) > 1 {
				t.Errorf("before the load balancer has answered: got %q, want that nothing is stopped", w.calls)
			}
		})
		w.mustBe(w.deploy(t.Context(), order(minHealthy(10*time.Second))), Deployed)
	})
}

func TestMinHealthy_NothingToDo_NotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.1", 2, "lb0")
		begun := time.Now()
		w.mustBe(w.deploy(t.Context(), order(minHealthy(10*time.Second))), Already)
		if got := time.Since(begun); got > time.Second {
			t.Errorf("took %v, want it at once", got)
		}
	})
}

// The old ones get their stop command after 1.3 s and drain for 15 s.
func TestNewInstanceLostWhileOldDrain(t *testing.T) {
	for _, c := range []struct {
		name  string
		lasts time.Duration
		want  Outcome
		texts []string
	}{
		{"permanently", 0, Halfway, []string{`"api-1.1-xyz-0" was live, but is no longer`, `"api-1.1-xyz-0" on lb1: phase down`, "api-1.1-xyz-0 (failing)"}},
		{"for one check", time.Second, Deployed, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "1.0", 2, "lb0", "lb1")
				w.drainTakes = 15 * time.Second
				w.down("api-1.1-xyz-0", 4*time.Second, c.lasts)
				begun := time.Now()
				w.mustBe(w.deploy(t.Context(), order()), c.want, c.texts...)
				if got := time.Since(begun); c.want == Halfway && got > 11*time.Second {
					t.Errorf("took %v, want it to end soon after 9 s", got)
				}
				synctest.Wait()
			})
		})
	}
}

func TestNewInstanceDeregisteredWhileOldDrain_NextWaveIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0")
		w.drainTakes, w.least = 15*time.Second, 2
		w.after(4*time.Second, func() { delete(w.nodes, Key{"api-1.1-xyz-0", "n"}) })
		w.mustBe(w.deploy(t.Context(), order(batch(1))), Halfway,
			`"api-1.1-xyz-0" was live, but is no longer registered in Consul`, "new version: no instance runs; old version: old-0 (leaving), old-1, old-2 run")
		w.mustCall("start 1 of 3", "stop old-0 undo=false last=false missing=0")
	})
}

// All old ones have gone when the new one is seen to be down.
func TestNewInstanceLostAtTheEnd_IsNotDeployed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.down("api-1.1-xyz-0", 3*time.Second, 0) // the stop command ends after 3.3 s
		w.mustBe(w.deploy(t.Context(), order()), Halfway, `"api-1.1-xyz-0" was live, but is no longer`)
		w.mustRun(map[string]int{"1.1": 1})
	})
}

func TestLoadBalancerSilentAtTheEnd_IsNotDeployed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0", "lb1")
		w.after(3*time.Second, func() { w.lbs["lb1"].mute = errors.New("connection refused") })
		w.mustBe(w.deploy(t.Context(), order()), Halfway, "state of the new instances unknown", "lb1 unreachable: connection refused")
	})
}

// A stop command that has not begun does not begin any more.
func TestNewInstanceLost_StopsAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 3, "lb0")
		w.stopTakes, w.oneByOne = 6*time.Second, true
		w.down("api-1.1-xyz-0", 4500*time.Millisecond, 0)
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Halfway, `stop "old-1": kept`, `stop "old-2": kept`, `"api-1.1-xyz-0" was live, but is no longer`)
		if got := strings.Join(r.Stopped, " "); got != "old-0" {
			t.Errorf("stopped: got %s, want old-0", got)
		}
	})
}

// A Consul that has just started lists its instances one after another. Old ones
// that it does not list yet run on, and are stopped once it does.
func TestConsulForgetsOldForAWhile_TheyAreStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		old := map[Key]*node{}
		w.after(2*time.Second, func() {
			for key, n := range w.nodes {
				if n.Version == "1.0" {
					old[key] = n
					delete(w.nodes, key)
				}
			}
		})
		w.after(8*time.Second, func() { maps.Copy(w.nodes, old) })
		w.mustBe(w.deploy(t.Context(), order(minHealthy(3*time.Second))), Deployed)
		time.Sleep(10 * time.Second)
		w.mustRun(map[string]int{"1.1": 2})
	})
}

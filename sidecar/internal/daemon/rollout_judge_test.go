package daemon

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// judgeScene is two load balancers that send a twentieth of 40,000 requests a second to
// the canary.
type judgeScene struct {
	*canaryJudge
	doc              rollout.Document
	canaryUp         bool
	errors           uint64 // of a thousand requests to the canary
	millis           float64
	stable, canary   sidecarapi.InstanceCounters
	reads            int
	isAway, isBehind bool // no load balancer answers; the canary takes no traffic here
}

func newJudgeScene() *judgeScene {
	s := &judgeScene{canaryUp: true, errors: 1, millis: 20}
	s.doc = rollout.Document{Service: "api", State: rollout.Running, Stable: "1.0", Canary: "1.1", Interval: rollout.Duration(12 * time.Second), StepAt: time.Now()}
	s.canaryJudge = &canaryJudge{
		now: time.Now,
		state: func() *reconcile.State {
			canary := reconcile.InstanceState{ID: "api-2", Version: "1.1", Phase: reconcile.PhaseUp, Weight: 5}
			if s.isBehind {
				canary.Phase = reconcile.PhaseDown
			}
			return &reconcile.State{LoadBalancer: "lb0", Services: []reconcile.ServiceState{{Name: "api", Backend: "api", Instances: []reconcile.InstanceState{canary}}}}
		},
		read: func(context.Context, string, ...string) []sidecarapi.Counters {
			if s.reads++; s.isAway {
				return nil
			}
			var all []sidecarapi.Counters
			s.stable = sidecarapi.InstanceCounters{Instance: "api-1", Version: "1.0", Up: true, Requests: s.stable.Requests + 38000, Errors: s.stable.Errors + 38, ResponseTimeMS: 20}
			s.canary = sidecarapi.InstanceCounters{Instance: "api-2", Version: "1.1", Up: s.canaryUp, Requests: s.canary.Requests + 2000, Errors: s.canary.Errors + 2*s.errors, ResponseTimeMS: s.millis}
			for _, lb := range []string{"lb0", "lb1"} {
				all = append(all, sidecarapi.Counters{LoadBalancer: lb, Service: "api", Instances: []sidecarapi.InstanceCounters{s.stable, s.canary}})
			}
			return all
		},
	}
	return s
}

// after asks each second, as the mover does, until the verdict is another than waiting.
func (s *judgeScene) after(ctx context.Context, seconds int) (j rollout.Judgement, took time.Duration) {
	begun := time.Now()
	for range seconds {
		s.judge(ctx, "api", &s.doc)
		synctest.Wait() // the look ends
		if j = s.judge(ctx, "api", &s.doc); j.Verdict != rollout.Wait {
			return j, time.Since(begun)
		}
		time.Sleep(time.Second)
	}
	return j, time.Since(begun)
}

func TestCanaryJudge_ByCounters(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*judgeScene)
		verdict rollout.Verdict
		reason  string
		within  time.Duration
	}{
		{"as good", func(*judgeScene) {}, rollout.Pass, "0.10 % of 12000 requests failed, 0.10 % of 228000 of the stable version; 20 ms on average", 12 * time.Second},
		{"more errors", func(s *judgeScene) { s.errors = 50 }, rollout.Fail, "more errors: 5.00 % of 8000 requests failed", 5 * time.Second},
		{"slower", func(s *judgeScene) { s.millis = 60 }, rollout.Fail, "slower: 60 ms on average, 20 ms of the stable version", 12 * time.Second},
		{"down", func(s *judgeScene) { s.canaryUp = false }, rollout.Fail, "no server of the canary is up, in 3 readings in a row", 12 * time.Second},
		{"not up yet", func(s *judgeScene) { s.isBehind, s.canaryUp = true, false }, rollout.Wait, "no instance of 1.1 takes traffic on lb0", time.Minute},
		{"no load balancer answers", func(s *judgeScene) { s.isAway = true }, rollout.Wait, "the counters have not been read twice", time.Minute},
		{"not compared", func(s *judgeScene) { s.errors, s.doc.Analysis = 500, rollout.AnalysisOff }, rollout.Pass, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newJudgeScene()
				c.change(s)
				got, took := s.after(t.Context(), 60)
				if got.Verdict != c.verdict || !strings.HasPrefix(got.Reason, c.reason) || took > c.within {
					t.Errorf("%s (%s) after %s, want %s (%s) within %s", got.Verdict, got.Reason, took, c.verdict, c.reason, c.within)
				}
			})
		})
	}
}

// A step that passes says nothing of the next one: the canary has more requests there.
func TestCanaryJudge_NextStep_IsComparedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newJudgeScene()
		if got, _ := s.after(t.Context(), 60); got.Verdict != rollout.Pass {
			t.Fatal(got)
		}
		reads := s.reads
		s.doc.Step, s.doc.StepAt = 1, time.Now()
		if got := s.judge(t.Context(), "api", &s.doc); got.Verdict != rollout.Wait || got.Reason != "the step has just begun" {
			t.Errorf("the next step begins with %v", got)
		}
		synctest.Wait()
		s.errors = 100
		if got, _ := s.after(t.Context(), 60); got.Verdict != rollout.Fail || s.reads == reads {
			t.Errorf("it fails in the next step: %v", got)
		}
		// Another rollout of the same versions begins from the start.
		s.errors, s.doc.Step, s.doc.StepAt = 1, 0, time.Now()
		if got, _ := s.after(t.Context(), 60); got.Verdict != rollout.Pass {
			t.Errorf("another rollout: %v", got)
		}
	})
}

// A sidecar that has aborted a canary knows nothing against it when it takes over a later
// rollout of it, which another has begun.
func TestCanaryJudge_LeadsAgain_ForgetsTheComparison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newJudgeScene()
		s.errors = 100
		if got, _ := s.after(t.Context(), 60); got.Verdict != rollout.Fail {
			t.Fatal(got)
		}
		s.errors, s.doc.Step, s.doc.StepAt = 1, 1, time.Now()
		s.forget("api")
		if got, _ := s.after(t.Context(), 60); got.Verdict != rollout.Pass {
			t.Errorf("it goes on with the comparison of before: %v", got)
		}
	})
}

func TestRolloutJudge_CanaryTakesTrafficInEveryBackend_Passes(t *testing.T) {
	up := reconcile.InstanceState{ID: "a", Version: "1.1", Phase: reconcile.PhaseUp, Weight: 5}
	down := reconcile.InstanceState{ID: "b", Version: "1.1", Phase: reconcile.PhaseDown, Weight: 5}
	stable := reconcile.InstanceState{ID: "c", Version: "1.0", Phase: reconcile.PhaseUp, Weight: 5}
	backend := func(name string, instances ...reconcile.InstanceState) reconcile.ServiceState {
		return reconcile.ServiceState{Name: name, Instances: instances}
	}
	for name, c := range map[string]struct {
		services []reconcile.ServiceState
		want     rollout.Verdict
	}{
		"up":                 {[]reconcile.ServiceState{backend("api", down, up, stable)}, rollout.Pass},
		"down":               {[]reconcile.ServiceState{backend("api", down, stable)}, rollout.Wait},
		"none":               {[]reconcile.ServiceState{backend("api", stable)}, rollout.Wait},
		"up in one backend":  {[]reconcile.ServiceState{backend("api", up), backend("api", stable)}, rollout.Wait},
		"another service's":  {[]reconcile.ServiceState{backend("web", up)}, rollout.Wait},
		"not that service's": {[]reconcile.ServiceState{backend("api", up), backend("web", stable)}, rollout.Pass},
	} {
		if got := takesTraffic(&reconcile.State{Services: c.services}, "api", "1.1"); got.Verdict != c.want || (got.Reason == "") != (c.want == rollout.Pass) {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}

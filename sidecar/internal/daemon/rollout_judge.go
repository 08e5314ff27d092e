package daemon

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/analysis"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// canaryJudge compares the canaries of running rollouts with their stable versions. It
// looks at the counters beside the mover, which has a session to keep.
type canaryJudge struct {
	state func() *reconcile.State
	read  func(ctx context.Context, service string, versions ...string) []sidecarapi.Counters // of the load balancers that answer
	now   func() time.Time

	mu   sync.Mutex
	runs map[string]*comparison // by service
}

// comparison is one rollout's.
type comparison struct {
	stable, canary string
	step           time.Time // when the current one began
	analysis       *analysis.Analysis
	verdict        analysis.Verdict
	isLooking      bool
	next           time.Time // when a look is due
	looked         time.Time // when the last one was
}

// A step is looked at six times, within these bounds. A look that takes longer than
// lookTimeout goes without the load balancers that have not answered.
const (
	looksPerStep = 6
	minLooks     = time.Second
	maxLooks     = 10 * time.Second
	lookTimeout  = 4 * time.Second
)

// judge returns what is known by now.
func (j *canaryJudge) judge(ctx context.Context, service string, d *rollout.Document) rollout.Judgement {
	takes := takesTraffic(j.state(), service, d.Canary)
	if d.Analysis == rollout.AnalysisOff {
		return takes
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.runs[service]
	switch {
	case c == nil || c.stable != d.Stable || c.canary != d.Canary || !c.step.Equal(d.StepAt) && d.Step == 0:
		if takes.Verdict != rollout.Pass {
			return takes // it has not come up yet: that is no failure
		}
		c = &comparison{stable: d.Stable, canary: d.Canary, step: d.StepAt, analysis: analysis.New(analysis.Default)}
		c.verdict = analysis.Verdict{Outcome: analysis.Waiting, Reason: "the counters have not been read twice"}
		if j.runs == nil {
			j.runs = map[string]*comparison{}
		}
		j.runs[service] = c
	case !c.step.Equal(d.StepAt):
		c.step = d.StepAt
		c.analysis.NextStep()
		c.verdict = analysis.Verdict{Outcome: analysis.Waiting, Reason: "the step has just begun"}
	}
	if now := j.now(); !c.isLooking && !now.Before(c.next) {
		c.isLooking, c.next = true, now.Add(min(max(time.Duration(d.Interval)/looksPerStep, minLooks), maxLooks))
		go j.look(ctx, service, c)
	}
	switch {
	case c.verdict.Outcome == analysis.Failed:
		return rollout.Judgement{Verdict: rollout.Fail, Reason: c.verdict.Reason}
	case takes.Verdict != rollout.Pass:
		return takes
	case c.verdict.Outcome == analysis.Passed:
		return rollout.Judgement{Verdict: rollout.Pass, Reason: c.verdict.Reason}
	}
	return rollout.Judgement{Verdict: rollout.Wait, Reason: c.verdict.Reason}
}

// numbers are what is known of the current step.
func (j *canaryJudge) numbers(service string) rollout.Numbers {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.runs[service]
	if c == nil || c.looked.IsZero() {
		return rollout.Numbers{}
	}
	is := func(t analysis.Totals) rollout.Counted {
		return rollout.Counted{Requests: t.Requests, Errors: t.Errors, Retries: t.Retries, ResponseTimeMS: math.Round(10*t.ResponseTime) / 10}
	}
	stable, canary := c.analysis.Totals()
	utc := func(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
	return rollout.Numbers{At: utc(c.looked), Next: utc(c.next), Stable: is(stable), Canary: is(canary)}
}

// forget has a rollout compared from the start: another sidecar may have moved it, or
// another rollout of the same versions, since.
func (j *canaryJudge) forget(service string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.runs, service)
}

func (j *canaryJudge) look(ctx context.Context, service string, c *comparison) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var readings []analysis.Reading
	for _, lb := range j.read(ctx, service, c.stable, c.canary) {
		for _, i := range lb.Instances {
			readings = append(readings, analysis.Reading{
				LoadBalancer: lb.LoadBalancer, Backend: i.Backend, Server: i.Server, Instance: i.Instance, Node: i.Node, IsCanary: i.Version == c.canary, IsUp: i.Up,
				Counters: analysis.Counters{
					Requests: i.Requests, Errors: i.Errors, Retries: i.Retries, ResponseTime: time.Duration(i.ResponseTimeMS * float64(time.Millisecond)),
				},
			})
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	c.isLooking = false
	if len(readings) > 0 {
		c.looked = j.now()
		c.verdict = c.analysis.Look(readings)
	}
}

// takesTraffic passes a canary that takes traffic in every backend of its service.
func takesTraffic(s *reconcile.State, service, canary string) rollout.Judgement {
	backends := 0
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Name != service || IsPreview(svc) {
			continue
		}
		backends++
		if !slices.ContainsFunc(svc.Instances, func(i reconcile.InstanceState) bool { return i.Version == canary && i.ID != "" && i.TakesTraffic() }) {
			return rollout.Judgement{Verdict: rollout.Wait, Reason: fmt.Sprintf("no instance of %s takes traffic on %s", catalog.Printable(canary), s.LoadBalancer)}
		}
	}
	if backends == 0 {
		return rollout.Judgement{Verdict: rollout.Wait, Reason: "the service is not routed by " + s.LoadBalancer}
	}
	return rollout.Judgement{Verdict: rollout.Pass}
}

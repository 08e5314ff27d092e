package trace

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// The bounds of what is remembered.
const (
	maxServices = 1000            // with steps that are in no trace yet
	maxSteps    = 128             // of a service; the newest are kept
	ofAll       = ""              // the key of what is of all services
	fileWait    = 5 * time.Second // for haproxy.cfg after a change
	maxWaiting  = 64              // traces that wait for that
)

// Recorder makes traces of what the agent does, and passes all on. The agent's loop calls
// it, one call at a time.
type Recorder struct {
	reconcile.Recorder // the next
	now                func() time.Time
	send               func(Change)

	steps   map[string][]Step // by service, the oldest first
	waiting []Change          // applied, but haproxy.cfg was not written yet
}

// NewRecorder returns each change to send, which must not wait.
func NewRecorder(next reconcile.Recorder, now func() time.Time, send func(Change)) *Recorder {
	return &Recorder{Recorder: next, now: now, send: send, steps: map[string][]Step{}}
}

// Change is a change of a service in Consul, on its way to HAProxy.
type Change struct {
	Service  string
	Answered time.Time // Consul's answer with it
	Applied  time.Time // HAProxy was seen to run it
	Written  time.Time // haproxy.cfg has it, or cannot be written; zero: that is not known
	Error    error     // why haproxy.cfg was not written
	Steps    []Step    // runtime commands and reloads, as they ended
}

// Step is a runtime command or a reload.
type Step struct {
	At                                   time.Time
	Name, Backend, Server, Instance, Why string
	Error                                error
}

// Step notes a runtime command.
func (r *Recorder) Step(service string, s plan.Step, err error) {
	r.Recorder.Step(service, s, err)
	r.add(service, Step{At: r.now(), Name: string(s.Kind), Backend: s.Backend, Server: s.Server, Instance: s.Instance, Why: string(s.Reason), Error: err})
}

func (r *Recorder) add(service string, s Step) {
	if _, known := r.steps[service]; !known && len(r.steps) >= maxServices {
		clear(r.steps)
	}
	list := r.steps[service]
	r.steps[service] = append(list[max(0, len(list)+1-maxSteps):], s)
}

// Reload notes a reload, which is of all services.
func (r *Recorder) Reload(reason plan.ReloadReason, err error) {
	r.Recorder.Reload(reason, err)
	r.add(ofAll, Step{At: r.now(), Name: "reload", Why: string(reason), Error: err})
}

// Applied makes a trace of a change with the steps since Consul's answer. Those before it
// were of something else: the end of a drain, drift.
func (r *Recorder) Applied(service string, took time.Duration) {
	r.Recorder.Applied(service, took)
	now := r.now()
	c := Change{Service: service, Answered: now.Add(-took), Applied: now}
	for _, s := range slices.Concat(r.steps[ofAll], r.steps[service]) {
		if !s.At.Before(c.Answered) {
			c.Steps = append(c.Steps, s)
		}
	}
	slices.SortStableFunc(c.Steps, func(a, b Step) int { return a.At.Compare(b.At) })
	delete(r.steps, service)
	if len(r.waiting) == maxWaiting {
		r.end(1)
	}
	r.waiting = append(r.waiting, c)
}

// FileWritten ends the traces that wait for haproxy.cfg.
func (r *Recorder) FileWritten(err error) {
	r.Recorder.FileWritten(err)
	for i := range r.waiting {
		r.waiting[i].Written, r.waiting[i].Error = r.now(), err
	}
	r.end(len(r.waiting))
}

// State ends the traces that have waited for haproxy.cfg for long: it needed no change.
func (r *Recorder) State(s *reconcile.State) {
	r.Recorder.State(s)
	n := 0
	for n < len(r.waiting) && r.now().Sub(r.waiting[n].Applied) > fileWait {
		n++
	}
	r.end(n)
}

func (r *Recorder) end(n int) {
	for _, c := range r.waiting[:n] {
		r.send(c)
	}
	r.waiting = slices.Delete(r.waiting, 0, n)
}

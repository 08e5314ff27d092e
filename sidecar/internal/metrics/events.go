package metrics

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Command counts one command to HAProxy: a plan.Kind, "observe" or "reload".
func (r *Recorder) Command(kind string, hasFailed bool) {
	if !slices.Contains(commandKinds(), kind) {
		kind = other
	}
	r.commands.WithLabelValues(kind, result(hasFailed)).Inc()
}

// Step counts one step that HAProxy took; one that failed is counted as a
// command only. The service is Consul's name.
func (r *Recorder) Step(service string, s plan.Step, err error) {
	if err != nil {
		return
	}
	r.steps.WithLabelValues(string(s.Kind), string(s.Reason)).Inc()
	if s.Reason == plan.Drift {
		r.services.corrected(service)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drainStep(s)
}

// drainStep measures drains, from the step that begins one to the step that
// ends it; one that began before the sidecar did is not known.
func (r *Recorder) drainStep(s plan.Step) {
	server := [2]string{s.Backend, s.Server}
	since, known := r.draining[server]
	switch {
	case s.Kind == plan.SetDrain && !known:
		r.draining[server] = r.now()
	case s.Kind == plan.SetDrain: // sent again
	case s.Kind == plan.SetMaint && known && (s.Reason == plan.Drained || s.Reason == plan.DrainExpired):
		r.drain.Observe(r.now().Sub(since).Seconds())
		delete(r.draining, server)
	default:
		delete(r.draining, server) // it ended otherwise
	}
}

// Reload counts one reload.
func (r *Recorder) Reload(reason plan.ReloadReason, err error) {
	r.reloads.WithLabelValues(string(reason), result(err != nil)).Inc()
}

// FileWritten counts one write of haproxy.cfg.
func (r *Recorder) FileWritten(err error) {
	r.writes.WithLabelValues(result(err != nil)).Inc()
}

// FilePutBack counts that haproxy.cfg had been changed by someone else.
func (r *Recorder) FilePutBack() { r.edits.Inc() }

// Violation counts that an invariant did not hold.
func (r *Recorder) Violation(invariant string) { r.violated.WithLabelValues(invariant).Inc() }

// Applied gets how long a change in Consul took until HAProxy was seen to
// run it. The service is no label: there may be thousands.
func (r *Recorder) Applied(_ string, took time.Duration) { r.apply.Observe(took.Seconds()) }

// OldWorkers gets how many there are, and how much memory they take, in
// bytes.
func (r *Recorder) OldWorkers(n int, memory int64) {
	r.workers.Set(float64(n))
	r.memory.Set(float64(memory))
}

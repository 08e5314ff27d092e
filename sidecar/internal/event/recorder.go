package event

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// Recorder notes in a Log what the agent does, and passes it on. The agent's
// loop calls it, one call at a time.
type Recorder struct {
	reconcile.Recorder // the next
	log                *Log
	now                func() time.Time

	last   *reconcile.State  // nil: none was seen
	failed map[string]string // the last error of a step, by server and kind: each is an event once

	stepped  map[string]time.Time // by backend, when HAProxy last took a step of a change that is not applied
	reloaded time.Time
}

// NewRecorder notes events in a log, and passes all on to the next recorder.
func NewRecorder(log *Log, next reconcile.Recorder, now func() time.Time) *Recorder {
	return &Recorder{Recorder: next, log: log, now: now, failed: map[string]string{}, stepped: map[string]time.Time{}}
}

// The bounds of what is remembered: errors, and backends.
const (
	maxFailed  = 1000
	maxStepped = 100_000
)

// stepKinds are the events of the steps that HAProxy took.
var stepKinds = map[plan.Kind]Kind{
	plan.Add: ServerAdded, plan.Delete: ServerRemoved, plan.SetReady: ServerReady, plan.SetDrain: ServerDraining, plan.SetMaint: ServerMaint,
	plan.SetWeight: WeightChanged, plan.SetAddr: AddressChanged, plan.Shutdown: SessionsEnded, plan.SetMaxConn: ServerChanged,
	plan.EnableHealth: ServerChanged, plan.EnableAgent: ServerChanged, plan.DisableAgent: ServerChanged,
	plan.AddBackend: BackendChanged, plan.PublishBackend: BackendChanged, plan.UnpublishBackend: BackendChanged, plan.DeleteBackend: BackendChanged,
}

// Step notes a runtime command.
func (r *Recorder) Step(service string, s plan.Step, err error) {
	r.Recorder.Step(service, s, err)
	e := Event{Kind: stepKinds[s.Kind], Service: service, Backend: s.Backend, Server: s.Server, Instance: s.Instance, Reason: string(s.Reason)}
	key := s.Backend + "/" + s.Server + " " + string(s.Kind)
	if err != nil {
		if r.failed[key] == err.Error() {
			return
		}
		if len(r.failed) >= maxFailed {
			clear(r.failed)
		}
		r.failed[key] = err.Error()
		e.Kind, e.Detail, e.Error = StepFailed, string(s.Kind), err.Error()
		r.log.Add(r.now(), e)
		return
	}
	delete(r.failed, key)
	if len(r.stepped) >= maxStepped {
		clear(r.stepped) // backends come and go
	}
	r.stepped[s.Backend] = r.now()
	switch s.Kind {
	case plan.Add, plan.SetAddr:
		e.Detail = s.Addr.String()
	case plan.SetWeight:
		e.Detail = fmt.Sprint(s.Weight)
		if s.Percent {
			e.Detail += "%"
		}
	case plan.SetMaxConn:
		e.Detail = fmt.Sprintf("maxconn %d", s.MaxConn)
	case plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
		e.Detail = string(s.Kind)
	case plan.Shutdown:
		e.Detail = fmt.Sprintf("%d sessions", s.Sessions)
	case plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint:
	}
	r.log.Add(r.now(), e)
}

// Reload notes a reload.
func (r *Recorder) Reload(reason plan.ReloadReason, err error) {
	r.Recorder.Reload(reason, err)
	e := Event{Kind: ReloadDone, Reason: string(reason)}
	if r.last != nil {
		e.Detail = requestedBy(r.last.ReloadRequests)
	}
	if err != nil {
		e.Kind, e.Error = ReloadFailed, err.Error()
	} else {
		r.reloaded = r.now()
	}
	r.log.Add(r.now(), e)
}

// requestedBy says who has asked for the reload that is under way; "" if no operator has.
func requestedBy(requests []reconcile.ReloadRequest) string {
	var by []string
	for _, q := range requests {
		if q.Status == reconcile.RequestUnderWay && !slices.Contains(by, q.By) {
			by = append(by, q.By)
		}
	}
	if len(by) == 0 {
		return ""
	}
	return "requested by " + strings.Join(by, " and ")
}

// FileWritten notes a write that failed; one that went well is no news.
func (r *Recorder) FileWritten(err error) {
	r.Recorder.FileWritten(err)
	if err != nil {
		r.log.Add(r.now(), Event{Kind: FileFailed, Error: err.Error()})
	}
}

// State notes what has changed since the last state.
func (r *Recorder) State(s *reconcile.State) {
	r.Recorder.State(s)
	if r.last != nil {
		r.log.Add(r.now(), between(r.last, s)...)
		r.log.Add(r.now(), r.applied(s)...)
	}
	r.last = s
}

// afterText has a tenth of a millisecond where that matters.
func afterText(took time.Duration) string {
	digits := 0
	if took < 10*time.Millisecond {
		digits = 1
	}
	return fmt.Sprintf("after %.*f ms", digits, took.Seconds()*1000)
}

// applied returns the changes in Consul that HAProxy is now seen to run. One for which nothing
// was to be done there is none: Consul says other things of an instance, too.
func (r *Recorder) applied(is *reconcile.State) (events []Event) {
	was := r.last.Services
	for i := range is.Services {
		now := &is.Services[i]
		for len(was) > 0 && order(&was[0], now) < 0 {
			was = was[1:]
		}
		if len(was) == 0 || order(&was[0], now) != 0 || now.AppliedAfter == 0 || now.Applied.Equal(was[0].Applied) {
			continue
		}
		took := time.Duration(now.AppliedAfter * float64(time.Millisecond))
		changed := now.Applied.Add(-took - time.Millisecond) // it is rounded
		at, isStepped := r.stepped[now.Backend]
		delete(r.stepped, now.Backend)
		if isStepped && at.After(changed) || r.reloaded.After(changed) {
			events = append(events, Event{Kind: ChangeApplied, Service: now.Name, Backend: now.Backend, Detail: afterText(took)})
		}
	}
	return events
}

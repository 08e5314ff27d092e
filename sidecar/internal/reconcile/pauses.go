package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// PauseMap is the map in which HAProxy looks up which backends are paused.
type PauseMap struct {
	File     string                   // "" where no service can be paused
	Backends map[string]string        // those that can be paused, with their services
	Of       map[string]catalog.Pause // by service, as recorded in Consul
	Error    string                   // why Consul's cannot be read; the last known ones stay
}

// Want is the map for HAProxy: deadlines in milliseconds since 1970. next is when the
// first of them is over; zero: there is none.
func (m PauseMap) Want(now time.Time) (want route.Map, next time.Time) {
	want = route.Map{}
	for backend, service := range m.Backends {
		until := m.Of[service].Until
		if !until.After(now) {
			continue
		}
		want[backend] = strconv.FormatInt(until.UnixMilli(), 10)
		if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return want, next
}

// CannotPause is the problem of a pause of a service that has no such setting.
const CannotPause = "pause.max of the service is not set on this load balancer"

// pauseKeeper is what the agent knows of the map in HAProxy.
type pauseKeeper struct {
	pid      int // the worker that was compared last
	isBeside bool
	want     route.Map
	due      time.Time            // when it is compared again
	applied  map[string]time.Time // by backend, since when new requests wait in the worker that serves
	err      error
	logged   string
	retry    backoff
}

// syncPauses compares HAProxy's map with the pauses and corrects it, and gives the time
// until it is to be called again. While a reload is under way it does so, too: requests are
// to go on at once. But a pause counts as applied only when the reload has ended, as the
// worker that it brings may have read the map before.
func (a *Agent) syncPauses(ctx context.Context) time.Duration {
	p, o, m := &a.pauses, a.known.observed, a.set.Pauses
	if m.File == "" || a.maps == nil || !o.Running {
		*p = pauseKeeper{logged: p.logged}
		return time.Hour
	}
	now, isReloading := time.Now(), a.reloads.running != nil
	want, next := m.Want(now)
	if p.pid != o.PID || p.isBeside != isReloading || !maps.Equal(p.want, want) || !now.Before(p.due) {
		isOther := p.pid != o.PID
		isDrift := !isOther && maps.Equal(p.want, want) && p.err == nil
		maps.DeleteFunc(p.applied, func(backend string, _ time.Time) bool { return p.want[backend] != want[backend] })
		p.pid, p.isBeside, p.want = o.PID, isReloading, want
		if p.err = a.syncPauseMap(ctx, isReloading, isDrift); p.err != nil && isOther {
			p.applied = nil // what this worker has is not known
		}
		if ctx.Err() != nil {
			return time.Hour
		}
		p.due = time.Now().Add(a.set.Reconcile)
		if p.err != nil {
			p.due = time.Now().Add(p.retry.next(a.jitter))
		} else {
			p.retry = backoff{}
		}
		a.notePauses()
	}
	wait := time.Until(p.due)
	if !next.IsZero() {
		wait = min(wait, time.Until(next)+time.Millisecond)
	}
	return wait
}

// unknownMap is an error of Maps that says so where HAProxy does not have the map.
type unknownMap interface {
	error
	IsUnknownMap() bool
}

// syncPauseMap brings the map to what is wanted. HAProxy has no such map where haproxy.cfg
// has no backend that names it yet, as with a profile without a service: then it has what is
// wanted as long as that is nothing.
func (a *Agent) syncPauseMap(ctx context.Context, isReloading, isDrift bool) error {
	p, file := &a.pauses, a.set.Pauses.File
	for range mapRounds {
		have, err := a.maps.ReadMap(ctx, file)
		if _, isUnknown := errors.AsType[unknownMap](err); err != nil && (!isUnknown || len(p.want) > 0) {
			return err
		}
		u := route.UpdateOf(have, p.want.Table())
		if len(u.Changes) == 0 {
			a.notePaused(isReloading)
			return nil
		}
		for _, c := range u.Changes {
			delete(p.applied, c.Key)
		}
		if err := a.maps.UpdateMap(ctx, file, u, p.want.Table()); err != nil {
			return err
		}
		for _, c := range u.Changes {
			a.logPause(c, isDrift)
		}
	}
	return fmt.Errorf("haproxy: map %s: pauses that were sent do not show", file)
}

// notePaused notes what HAProxy has.
func (a *Agent) notePaused(isReloading bool) {
	p := &a.pauses
	maps.DeleteFunc(p.applied, func(backend string, _ time.Time) bool { return p.want[backend] == "" })
	if p.applied == nil {
		p.applied = map[string]time.Time{}
	}
	for backend := range p.want {
		if p.applied[backend].IsZero() && !isReloading {
			p.applied[backend] = time.Now()
		}
	}
}

func (a *Agent) logPause(c route.Change, isDrift bool) {
	log, prefix := a.log.Info, ""
	if isDrift {
		log, prefix = a.log.Warn, "drift corrected: "
	}
	service := a.set.Pauses.Backends[c.Key]
	if c.Kind == route.Del {
		log(prefix+"pause ended", "service", service, "backend", c.Key)
		return
	}
	pause := a.set.Pauses.Of[service]
	log(prefix+"service paused", "service", service, "backend", c.Key, "until", pause.Until, "by", catalog.Printable(pause.ModifiedBy), "reason", catalog.Printable(pause.Reason))
}

// notePauses logs once that the map cannot be brought to what is wanted. A worker from
// before the settings may lack it: a reload is due.
func (a *Agent) notePauses() {
	p := &a.pauses
	isOurs := a.known.observed.Marker == a.set.Renderer.Marker()
	switch is := text(p.err); {
	case p.err != nil && isOurs && p.logged != is:
		a.log.Error("pauses update failed", "error", oneLine(p.err))
		p.logged = is
	case p.err == nil && p.logged != "":
		a.log.Info("pauses update recovered")
		p.logged = ""
	}
}

// pauseState is what there is to say of a service's pause; nil: nothing.
func (a *Agent) pauseState(svc plan.Service) *PauseState {
	m, p := a.set.Pauses, &a.pauses
	pause := m.Of[svc.Name]
	s := &PauseState{Refused: pause.Refused}
	if pause.Until.After(time.Now()) {
		s.Until, s.ModifiedBy, s.ModifiedAt, s.Reason = pause.Until, pause.ModifiedBy, pause.ModifiedAt, pause.Reason
		s.Applied = p.applied[svc.Backend]
		s.Problem = text(p.err)
		if _, canPause := m.Backends[svc.Backend]; !canPause {
			s.Problem = CannotPause
		}
	}
	if *s == (PauseState{}) {
		return nil
	}
	return s
}

// pause tells of a pause.
func (v *Verdict) pause(s *ServiceState) {
	p := s.Pause
	if p == nil {
		return
	}
	if p.Refused != "" {
		v.addTo(Degraded, s.Name, s.Backend, "invalid pause ignored: "+p.Refused)
	}
	switch {
	case p.Until.IsZero():
	case p.Problem != "" && p.Applied.IsZero():
		v.addTo(Degraded, s.Name, s.Backend, "pause not applied: "+p.Problem)
	case p.Problem != "":
		v.addTo(Degraded, s.Name, s.Backend, "paused, and the map of pauses cannot be verified: "+p.Problem)
	case p.Applied.IsZero():
		v.addTo(Behind, s.Name, s.Backend, "pause not applied yet")
	default:
		v.addTo(InStep, s.Name, s.Backend, fmt.Sprintf("paused until %s by %s: new requests wait", p.Until.Format(time.TimeOnly), catalog.Printable(p.ModifiedBy)))
	}
}

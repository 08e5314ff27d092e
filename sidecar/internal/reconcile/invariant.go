package reconcile

import (
	"fmt"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Invariant is something that must hold in production, by the name that its metric
// has.
type Invariant string

// The invariants.
const (
	// ReadyFileCurrent: a sidecar that is ready has haproxy.cfg as HAProxy runs it,
	// or is about to.
	ReadyFileCurrent Invariant = "ready_file_current"
	// WantedServerPresent: an instance that Consul wants has a server that is not in
	// maint, or a reason why not.
	WantedServerPresent Invariant = "wanted_server_present"
	// DrainedNoRequest: an instance that was called drained gets no request.
	DrainedNoRequest Invariant = "drained_no_request"
)

// Invariants lists every Invariant.
var Invariants = []Invariant{ReadyFileCurrent, WantedServerPresent, DrainedNoRequest}

const (
	// invariantBound is how long the file may be behind, and a server missing.
	invariantBound = time.Minute
	// drainedFor is how long an instance that was called drained is looked at.
	drainedFor = 5 * time.Minute
	// drainedMost bounds how many are looked at.
	drainedMost = 1000
)

// InvariantWatch looks at each published state whether what must hold does. It is
// beside the loop: it changes nothing, and reads nothing but states. A violation is
// reported once, until what was violated holds again.
type InvariantWatch struct {
	now    func() time.Time
	report func(Invariant, string)

	stale   time.Time // since when the file is behind; zero: it is not
	told    bool      // and that was reported
	missing map[string]missingIn

	mu      sync.Mutex
	drained map[[2]string]time.Time // when an instance of a service was called drained
}

// missingIn is what is missing of one backend.
type missingIn struct {
	first *InstanceState // of the slice that it was made from: another one is new
	n     int
	since map[[2]string]time.Time // by ID and node
	told  map[[2]string]bool
}

// NewInvariantWatch reports violations to report, with what was seen.
func NewInvariantWatch(now func() time.Time, report func(Invariant, string)) *InvariantWatch {
	return &InvariantWatch{now: now, report: report, missing: map[string]missingIn{}, drained: map[[2]string]time.Time{}}
}

// Drained notes that an instance was called drained. Any goroutine may call it.
func (w *InvariantWatch) Drained(service, instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.drained) < drainedMost {
		w.drained[[2]string{service, instance}] = w.now()
	}
}

// Look looks at a state. One goroutine calls it, with each state that is published.
func (w *InvariantWatch) Look(s *State) {
	now := w.now()
	w.file(s, now)
	w.servers(s, now)
	w.requests(s, now)
}

// isExcused reports whether the state itself says why HAProxy is not as Consul is.
func (s *State) isExcused() bool {
	return !s.Ready || !s.HAProxy.Running || s.HAProxy.Error != "" || s.Reloads.Pending != "" || s.Reloads.Error != ""
}

// file looks at the file. While changes come one after the other it is behind all the
// time, and written all the time.
func (w *InvariantWatch) file(s *State, now time.Time) {
	isUnknown := false
	for i := range s.Services {
		isUnknown = isUnknown || !s.Services[i].Known
	}
	if s.File.Current || s.File.Error != "" || s.isExcused() || isUnknown {
		w.stale, w.told = time.Time{}, false
		return
	}
	if w.stale.IsZero() || s.File.Written.After(w.stale) {
		w.stale = now
	}
	if behind := now.Sub(w.stale); behind >= invariantBound && !w.told {
		w.told = true
		w.report(ReadyFileCurrent, fmt.Sprintf("%s is behind since %s, without a reported reason", s.File.Path, behind.Round(time.Second)))
	}
}

func (w *InvariantWatch) servers(s *State, now time.Time) {
	if s.isExcused() {
		clear(w.missing)
		return
	}
	present := make(map[string]bool, len(s.Services))
	for i := range s.Services {
		svc := &s.Services[i]
		present[svc.Backend] = true
		in := missingIn{n: len(svc.Instances)}
		if in.n > 0 {
			in.first = &svc.Instances[0]
		}
		was := w.missing[svc.Backend]
		if was.first == in.first && was.n == in.n {
			in = was
		} else {
			in.find(svc, was, now)
		}
		for key, since := range in.since {
			if absent := now.Sub(since); absent >= invariantBound && !in.told[key] {
				in.told[key] = true
				w.report(WantedServerPresent, fmt.Sprintf("instance %s on %s of %s has no server in traffic since %s, without a reported reason", key[0], key[1], svc.Backend, absent.Round(time.Second)))
			}
		}
		w.missing[svc.Backend] = in
	}
	for backend := range w.missing {
		if !present[backend] {
			delete(w.missing, backend)
		}
	}
}

// find gathers what is missing now, with the times of what was missing before.
func (in *missingIn) find(svc *ServiceState, was missingIn, now time.Time) {
	in.since, in.told = map[[2]string]time.Time{}, map[[2]string]bool{}
	for i := range svc.Instances {
		inst := &svc.Instances[i]
		isMissing := inst.Phase == PhaseUnknown || inst.Phase == PhaseOut
		if !isMissing || inst.ID == "" || inst.Own || !inst.isWanted() || inst.RoleLost || inst.Waiting != "" || !inst.DampedUntil.IsZero() {
			continue
		}
		key := [2]string{inst.ID, inst.Node}
		in.since[key] = now
		if since, before := was.since[key]; before {
			in.since[key], in.told[key] = since, was.told[key]
		}
	}
}

func (w *InvariantWatch) requests(s *State, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.HAProxy.Running || len(w.drained) == 0 {
		return
	}
	left := w.left(s)
	for key, since := range w.drained {
		switch l := left[key]; {
		case l.isBack, now.Sub(since) > drainedFor:
			delete(w.drained, key)
		case l.sessions > 0:
			delete(w.drained, key)
			w.report(DrainedNoRequest, fmt.Sprintf("instance %s of %s was reported drained, and has %s %s later", key[1], key[0], count(l.sessions, "session"), now.Sub(since).Round(time.Millisecond)))
		}
	}
}

// leftOf is what is left of an instance that was called drained.
type leftOf struct {
	sessions int
	isBack   bool // it is in traffic again, or may come
}

func (l leftOf) with(inst *InstanceState) leftOf {
	l.isBack = l.isBack || inst.isWanted() || inst.Phase == PhaseUp || inst.Phase == PhaseStarting
	l.sessions += inst.Sessions
	return l
}

// left finds what is left of those that were called drained, in one pass through the
// instances of their services.
func (w *InvariantWatch) left(s *State) map[[2]string]leftOf {
	of := map[string][][2]string{}
	for key := range w.drained {
		of[key[0]] = append(of[key[0]], key)
	}
	left := map[[2]string]leftOf{}
	for i := range s.Services {
		svc := &s.Services[i]
		if of[svc.Name] == nil {
			continue
		}
		for j := range svc.Instances {
			inst := &svc.Instances[j]
			switch key := [2]string{svc.Name, inst.ID}; {
			case inst.Own:
			case inst.ID != "":
				if _, was := w.drained[key]; was {
					left[key] = left[key].with(inst)
				}
			default: // Consul does not list it
				for _, key := range of[svc.Name] {
					if catalog.MayBeNamed(inst.Server, key[1]) {
						left[key] = left[key].with(inst)
					}
				}
			}
		}
	}
	return left
}

package reconcile

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a watch and what it has reported.
type watched struct {
	*InvariantWatch
	reported []Invariant
}

func newWatched() *watched {
	w := &watched{}
	w.InvariantWatch = NewInvariantWatch(time.Now, func(i Invariant, _ string) { w.reported = append(w.reported, i) })
	return w
}

// during looks at states for a time, one each second.
func (w *watched) during(d time.Duration, state func() *State) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		w.Look(state())
	}
}

func (w *watched) expect(t *testing.T, want ...Invariant) {
	t.Helper()
	if !slices.Equal(w.reported, want) {
		t.Errorf("reported %v, want %v", w.reported, want)
	}
	w.reported = nil
}

// goodState is a load balancer where all is well, with one instance.
func goodState(change ...func(*State)) *State {
	s := &State{
		Ready: true, HAProxy: HAProxyState{Running: true}, File: FileState{Current: true},
		Services: []ServiceState{{Name: "api", Backend: "api", Known: true, Instances: []InstanceState{
			{ID: "api-1", Node: "n", Server: "api-1", Health: "passing", Phase: PhaseUp, Weight: 100},
		}}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func instanceState(change func(*InstanceState)) func(*State) {
	return func(s *State) { change(&s.Services[0].Instances[0]) }
}

func TestInvariant_FileBehindWithoutReason_ReportedOnceAndAgainAfterItWasCurrent(t *testing.T) {
	behind := func(s *State) { s.File.Current = false }
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		w.during(time.Hour, func() *State { return goodState() })
		w.during(50*time.Second, func() *State { return goodState(behind) })
		w.expect(t)
		w.during(time.Hour, func() *State { return goodState(behind) })
		w.expect(t, ReadyFileCurrent)
		w.during(time.Second, func() *State { return goodState() })
		w.during(2*time.Minute, func() *State { return goodState(behind) })
		w.expect(t, ReadyFileCurrent)

		for name, excuse := range map[string]func(*State){
			"HAProxy is away":      func(s *State) { s.HAProxy.Running = false },
			"not ready":            func(s *State) { s.Ready = false },
			"the write fails":      func(s *State) { s.File.Error = "no space" },
			"a reload is due":      func(s *State) { s.Reloads.Pending = "service_added" },
			"the reload fails":     func(s *State) { s.Reloads.Error = "no" },
			"Consul has not said":  func(s *State) { s.Services[0].Known = false },
			"it is written always": func(s *State) { s.File.Written = time.Now().Add(-time.Second) },
		} {
			w := newWatched()
			w.during(time.Hour, func() *State { return goodState(behind, excuse) })
			if len(w.reported) > 0 {
				t.Errorf("%s: reported %v", name, w.reported)
			}
		}
	})
}

func TestInvariant_WantedInstanceWithoutServer_Reported(t *testing.T) {
	for _, phase := range []Phase{PhaseUnknown, PhaseOut} {
		missing := instanceState(func(i *InstanceState) { i.Phase = phase })
		synctest.Test(t, func(t *testing.T) {
			w := newWatched()
			w.during(50*time.Second, func() *State { return goodState(missing) })
			w.expect(t)
			w.during(time.Hour, func() *State { return goodState(missing) })
			w.expect(t, WantedServerPresent)

			// A state whose instances were not made again is not looked through, and
			// the time goes on.
			w = newWatched()
			same := goodState(missing)
			w.during(2*time.Minute, func() *State { return same })
			w.expect(t, WantedServerPresent)

			for name, excuse := range map[string]func(*State){
				"it waits":         instanceState(func(i *InstanceState) { i.Waiting = "slot" }),
				"it leaves":        instanceState(func(i *InstanceState) { i.Leaving = true }),
				"it is critical":   instanceState(func(i *InstanceState) { i.Health = "critical" }),
				"an operator":      instanceState(func(i *InstanceState) { i.Drain = time.Now() }),
				"it flaps":         instanceState(func(i *InstanceState) { i.DampedUntil = time.Now() }),
				"the role is lost": instanceState(func(i *InstanceState) { i.RoleLost = true }),
				"a reload is due":  func(s *State) { s.Reloads.Pending = "slots_exhausted" },
				"it starts":        instanceState(func(i *InstanceState) { i.Phase = PhaseStarting }),
				"it is down":       instanceState(func(i *InstanceState) { i.Phase = PhaseDown }),
			} {
				w := newWatched()
				w.during(time.Hour, func() *State { return goodState(missing, excuse) })
				if len(w.reported) > 0 {
					t.Errorf("%s: reported %v", name, w.reported)
				}
			}
		})
	}
}

func TestInvariant_RequestAfterDrainedAnswer_Reported(t *testing.T) {
	out := instanceState(func(i *InstanceState) { i.Phase, i.Leaving = PhaseOut, true })
	session := instanceState(func(i *InstanceState) { i.Sessions = 1 })
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		w.Drained("api", "api-1")
		w.during(time.Minute, func() *State { return goodState(out) })
		w.expect(t)
		w.during(time.Minute, func() *State { return goodState(out, session) })
		w.expect(t, DrainedNoRequest)

		// Also where Consul no longer lists it, and a server has its name.
		w.Drained("api", "api-1")
		w.during(time.Minute, func() *State {
			return goodState(out, session, instanceState(func(i *InstanceState) { i.ID, i.Health = "", "gone" }))
		})
		w.expect(t, DrainedNoRequest)

		// One that was not called drained may have sessions, and so may one that came
		// back.
		w.during(time.Minute, func() *State { return goodState(out, session) })
		w.Drained("api", "api-1")
		w.during(time.Minute, func() *State { return goodState() })
		w.during(time.Minute, func() *State { return goodState(out, session) })
		w.expect(t)
	})
}

package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// cannotListen is what HAProxy says of a content that rejectBad rejects.
func cannotListen(content []byte) error {
	if err := rejectBad(content); err != nil {
		return listenError{err}
	}
	return nil
}

// listenError has the words of another one.
type listenError struct{ error }

func (e listenError) Is(target error) bool { return target == plan.ErrListen }

// While a new worker tries to bind, the old one refuses clients.
func TestAServiceThatCannotBeListenedForIsLeftOutWithoutAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.file.with(func() { b.file.reject, b.file.bindable = nil, rejectBad })
		b.haproxy.with(func() {
			b.haproxy.failLoad = func(content []byte) error {
				if err := cannotListen(content); err != nil {
					t.Error("HAProxy was told to load it")
					return err
				}
				return nil
			}
		})
		b.catalog.says("new", instance("new-1", 7))
		b.reconfigure("api_nodes=2 new_nodes=bad web_nodes=1")
		b.wantRuns("api_nodes=2 web_nodes=1")
		b.wantLeftOut("new new_nodes false [ALERT] new_nodes;")
		b.passes(time.Hour)
		if s := b.agent.State(); s.Reloads.Succeeded != 1 || s.Reloads.Failed != 0 || s.Reloads.Error != "" {
			t.Errorf("got %+v, want one reload", s.Reloads)
		}
		// The address becomes free.
		b.file.with(func() { b.file.bindable = nil })
		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		b.eventually("it is taken", 11*time.Second, func() bool { return len(b.agent.State().File.LeftOut) == 0 })
		b.wantRuns("api_nodes=2 new_nodes=bad web_nodes=1")
	})
}

func TestListen_NoServicesFault_IsNotReloadedBeforeItCanBeListenedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		busy := errors.New("render: a new worker could not listen")
		b.file.with(func() { b.file.bindable = func([]byte) error { return busy } })
		written := b.file.writes()
		b.catalog.says("api", many(6)...)
		b.passes(10 * time.Minute)
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
		if got := b.agent.State().Reloads; got.Failed < 5 || got.Failed > 20 || got.Error != busy.Error() || got.Pending == "" {
			t.Errorf("got %+v, want it to be tried again, and the error", got)
		}
		if n := b.file.writes(); n != written+1 { // the servers that have slots
			t.Errorf("the file was written %d times, want it once", n-written)
		}
		b.file.with(func() { b.file.bindable = nil })
		b.eventually("it is loaded", 2*time.Minute, func() bool { s := b.agent.State().Reloads; return s.Succeeded == 1 && s.Error == "" })
	})
}

// Where only HAProxy can tell, each try costs the clients seconds.
func TestAReloadThatCannotListenIsTriedAgainMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return listenError{errors.New("no port")} } })
		b.catalog.says("api", many(6)...)
		b.passes(6 * time.Hour)
		times, m := b.haproxy.reloadTimes(), time.Minute
		if got, want := gaps(times), []time.Duration{m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, time.Hour}; len(got) < len(want) || !slices.Equal(got[:len(want)], want) || slices.Max(got) > time.Hour {
			t.Errorf("got tries %v apart, want %v, and an hour from then on", got[:min(len(got), 10)], want)
		}
		// New settings are tried at once, and begin again.
		b.agent.Reconfigure(b.settings)
		began := time.Now()
		b.passes(90 * time.Second)
		if got := b.since(began)[len(times):]; len(got) != 2 || got[0] > 10*time.Second {
			t.Errorf("got tries after %v, want one at once and one after a minute", got)
		}
	})
}

func TestAServiceThatOnlyAReloadFindsOutAboutIsLeftOutAndTriedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		var bad []time.Time
		b.file.with(func() { b.file.reject = nil })
		b.haproxy.with(func() {
			b.haproxy.failLoad = func(content []byte) error {
				err := cannotListen(content)
				if err != nil {
					bad = append(bad, time.Now())
				}
				return err
			}
		})
		b.reconfigure("api_nodes=bad web_nodes=2")
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.wantLeftOut("api api_nodes true [ALERT] api_nodes;")
		if s := b.agent.State(); s.Reloads.Failed != 1 || s.Reloads.Succeeded != 1 || s.Reloads.Error != "" {
			t.Errorf("got %+v, want one that failed and then one without it", s.Reloads)
		}
		b.wantFile("api-1 10.0.0.1:4000")
		b.passes(6 * time.Hour)
		b.haproxy.with(func() {
			m := time.Minute
			if got, want := gaps(bad), []time.Duration{m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, time.Hour}; len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
				t.Errorf("got reloads with it %v apart, want %v", got[:min(len(got), 10)], want)
			}
		})
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		b.eventually("it is taken", 61*time.Minute, func() bool { return len(b.agent.State().File.LeftOut) == 0 })
		b.wantRuns("api_nodes=bad web_nodes=2")
		b.passes(time.Minute)
		if got := fmt.Sprint(b.agent.State().Reloads.Error); got != "" {
			t.Errorf("got the error %q, want none", got)
		}
	})
}

// gaps are the times between times, to the minute.
func gaps(times []time.Time) (out []time.Duration) {
	for i := 1; i < len(times); i++ {
		out = append(out, times[i].Sub(times[i-1]).Round(time.Minute))
	}
	return out
}

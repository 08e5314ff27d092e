package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

const pauseFile = "/etc/haproxy/haproxy.cfg.pointsman.pauses.map"

// pausing is serving with a service that can be paused.
func pausing(t *testing.T, have ...route.Entry) *bench {
	b := newBench(t, true)
	b.maps = &fakeMaps{entries: map[string][]route.Entry{pauseFile: have}}
	b.settings.Pauses = reconcile.PauseMap{File: pauseFile, Backends: map[string]string{"api_nodes": "api"}}
	b.catalog.says("api", many(1)...)
	b.adoptable()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	return b
}

// pause has another pause of the service as the only difference.
func (b *bench) pause(p catalog.Pause) {
	b.settings.Pauses.Of, b.settings.OnlyRoutes = map[string]catalog.Pause{"api": p}, true
	b.agent.Reconfigure(b.settings)
}

func (b *bench) paused() *reconcile.PauseState { return b.agent.State().Services[0].Pause }

func (b *bench) hasDeadline(until time.Time) bool {
	want := route.Map{}
	if !until.IsZero() {
		want["api_nodes"] = fmt.Sprint(until.UnixMilli())
	}
	return b.maps.has(pauseFile, want)
}

func TestPauses_SetExtendedAndEnded_HAProxyHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t)
		if b.paused() != nil {
			t.Errorf("not paused: %+v", b.paused())
		}
		until := time.Now().Add(30 * time.Second)
		b.pause(catalog.Pause{Until: until, ModifiedBy: "ann@ops1", Reason: "migration"})
		b.eventually("it is paused", 10*time.Millisecond, func() bool {
			p := b.paused()
			return b.hasDeadline(until) && p != nil && !p.Applied.IsZero() && p.Until.Equal(until) && p.ModifiedBy == "ann@ops1"
		})
		if v := b.agent.State().Verdict(); v.Status != reconcile.InStep || !strings.Contains(fmt.Sprint(v.Reasons), "paused until ") {
			t.Errorf("the verdict is %+v", v)
		}
		until = until.Add(30 * time.Second)
		b.pause(catalog.Pause{Until: until})
		b.eventually("it is longer", 10*time.Millisecond, func() bool { return b.hasDeadline(until) && !b.paused().Applied.IsZero() })
		b.pause(catalog.Pause{})
		b.eventually("it is ended", 10*time.Millisecond, func() bool { return b.hasDeadline(time.Time{}) && b.paused() == nil })
		if strings.Contains(b.log.String(), "drift") {
			t.Errorf("the log has\n%s", b.log)
		}
	})
}

func TestPauses_Deadline_EntryGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t)
		until := time.Now().Add(3500 * time.Millisecond)
		b.pause(catalog.Pause{Until: until})
		b.passes(3400 * time.Millisecond)
		if !b.hasDeadline(until) {
			t.Error("it is not paused before its deadline")
		}
		b.passes(200 * time.Millisecond)
		if !b.hasDeadline(time.Time{}) || b.paused() != nil {
			t.Errorf("after the deadline: %+v", b.paused())
		}
	})
}

// A sidecar that starts and has read no pause yet goes on with those of the file.
func TestPauses_DriftAndAnotherWorker_AreCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t, route.Entry{Key: "api_nodes", Value: "99"})
		b.passes(time.Second)
		if !b.hasDeadline(time.Time{}) {
			t.Error("an entry that is not wanted stays")
		}
		until := time.Now().Add(time.Hour)
		b.pause(catalog.Pause{Until: until})
		b.passes(time.Second)
		b.maps.with(func() { b.maps.entries[pauseFile] = nil })
		b.passes(b.settings.Reconcile + time.Second)
		if !b.hasDeadline(until) || !strings.Contains(b.log.String(), "drift corrected: service paused") {
			t.Errorf("drift is not corrected, or not logged:\n%s", b.log)
		}
		b.maps.with(func() { b.maps.entries[pauseFile] = nil })
		b.haproxy.with(func() { b.haproxy.pid++ })
		b.passes(b.settings.Reconcile + time.Second)
		if !b.hasDeadline(until) {
			t.Error("another worker does not have it")
		}
	})
}

func TestPauses_HAProxyDoesNotTakeThem_DegradedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t)
		b.maps.with(func() { b.maps.refuse = errors.New("no") })
		until := time.Now().Add(time.Hour)
		b.pause(catalog.Pause{Until: until})
		b.passes(time.Second)
		if p := b.paused(); p == nil || !p.Applied.IsZero() || p.Problem != "no" {
			t.Errorf("refused: %+v", p)
		}
		if v := b.agent.State().Verdict(); v.Status != reconcile.Degraded || !strings.Contains(fmt.Sprint(v.Reasons), "pause not applied: no") {
			t.Errorf("the verdict is %+v", v)
		}
		b.maps.with(func() { b.maps.refuse = nil })
		b.eventually("it is tried again", 10*time.Second, func() bool { return b.hasDeadline(until) && !b.paused().Applied.IsZero() })
	})
}

// What was applied is so no more once it is another deadline, or another worker, and HAProxy
// does not take the map.
func TestPauses_NotKnownAnyMore_NotApplied(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		change func(b *bench)
		isLeft bool
	}{
		"another deadline is refused": {change: func(b *bench) {
			b.maps.with(func() { b.maps.refuse = no })
			b.pause(catalog.Pause{Until: time.Now().Add(2 * time.Hour)})
		}},
		"drift that is not corrected": {change: func(b *bench) {
			b.maps.with(func() { b.maps.entries[pauseFile], b.maps.refuse = nil, no })
		}},
		"another worker cannot be read": {change: func(b *bench) {
			b.maps.with(func() { b.maps.unread = no })
			b.haproxy.with(func() { b.haproxy.pid++ })
		}},
		"the same worker cannot be read": {isLeft: true, change: func(b *bench) { b.maps.with(func() { b.maps.unread = no }) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := pausing(t)
			b.pause(catalog.Pause{Until: time.Now().Add(time.Hour)})
			b.eventually("it is applied", time.Second, func() bool { return b.paused() != nil && !b.paused().Applied.IsZero() })
			c.change(b)
			b.passes(b.settings.Reconcile + time.Second)
			p, v := b.paused(), b.agent.State().Verdict()
			if p == nil || p.Applied.IsZero() == c.isLeft || p.Problem != "no" || v.Status != reconcile.Degraded {
				t.Errorf("%s: %+v, %+v", name, p, v)
			}
		})
	}
}

type noMapError struct{ error }

func (noMapError) IsUnknownMap() bool { return true }

// The first service of a profile with pause.max may be still to come, and with it the first
// rule that names the map.
func TestPauses_HAProxyWithoutTheMap_IsAProblemOnlyWithAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t)
		b.maps.with(func() { b.maps.unread = fmt.Errorf("show map: %w", noMapError{errors.New("unknown map")}) })
		b.passes(3 * b.settings.Reconcile)
		if strings.Contains(b.log.String(), "pauses update") {
			t.Errorf("without a pause:\n%s", b.log)
		}
		b.pause(catalog.Pause{Until: time.Now().Add(time.Hour)})
		b.passes(time.Second)
		if p := b.paused(); p == nil || p.Problem != "show map: unknown map" {
			t.Errorf("with a pause: %+v", p)
		}
	})
}

func TestPauses_ServiceWithoutTheSetting_Degraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t)
		b.settings.Pauses.Backends = map[string]string{}
		b.pause(catalog.Pause{Until: time.Now().Add(time.Hour), Refused: "key x: no JSON"})
		b.passes(time.Second)
		reasons := fmt.Sprint(b.agent.State().Verdict().Reasons)
		if p := b.paused(); p == nil || p.Problem != reconcile.CannotPause || !strings.Contains(reasons, "invalid pause ignored: key x: no JSON") {
			t.Errorf("%+v, %s", p, reasons)
		}
	})
}

// While a reload is under way, a pause and its end reach the worker that serves at once.
// It counts as applied only when the reload has ended: the worker that it brings may have
// read the map before.
func TestPauses_ReloadUnderWay_AppliedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pausing(t)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad = hold })
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t2", Services: "s1", Settings: "g1"}}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.ReloadDebounce + time.Second) // the reload has begun
		first := time.Now().Add(time.Hour)
		b.pause(catalog.Pause{Until: first})
		b.passes(10 * time.Millisecond)
		if p := b.paused(); !b.hasDeadline(first) || p == nil || !p.Applied.IsZero() {
			t.Errorf("a pause during a reload: %+v, want it in HAProxy and not applied", p)
		}
		b.pause(catalog.Pause{})
		b.eventually("its end", 10*time.Millisecond, func() bool { return b.hasDeadline(time.Time{}) })
		second := time.Now().Add(time.Hour)
		b.pause(catalog.Pause{Until: second})
		b.passes(time.Second)
		b.maps.with(func() { b.maps.entries[pauseFile] = nil }) // the new worker has read an older map
		close(hold)
		b.eventually("it is applied", 2*time.Second, func() bool { return b.hasDeadline(second) && !b.paused().Applied.IsZero() })
	})
}

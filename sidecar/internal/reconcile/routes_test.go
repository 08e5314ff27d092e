package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// fakeMaps is HAProxy's maps.
type fakeMaps struct {
	mu      sync.Mutex
	entries map[string][]route.Entry // by file
	updates int
	calls   []string      // read, update
	refuse  error         // of UpdateMap
	unread  error         // of ReadMap
	ignore  bool          // it takes updates and does nothing
	takes   time.Duration // of ReadMap
}

func (m *fakeMaps) ReadMap(_ context.Context, file string) ([]route.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	time.Sleep(m.takes)
	m.calls = append(m.calls, "read")
	return slices.Clone(m.entries[file]), m.unread
}

func (m *fakeMaps) FindEntry(_ context.Context, file, key string) (route.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, "find")
	table := route.Map{}
	for _, e := range m.entries[file] {
		table[e.Key] = e.Value
	}
	found, value := table.Lookup(strings.TrimSuffix(key, "/"), "")
	return route.Entry{Key: found, Value: value}, nil
}

func (m *fakeMaps) UpdateMap(_ context.Context, file string, u route.Update, want route.Table) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates++
	m.calls = append(m.calls, "update")
	switch {
	case m.refuse != nil:
		return m.refuse
	case m.ignore:
		return nil
	case u.Replace:
		m.entries[file] = slices.Clone(want)
		return nil
	}
	c := u.Changes[0]
	i := slices.IndexFunc(m.entries[file], func(e route.Entry) bool { return e.Key == c.Key })
	switch {
	case c.Kind == route.Add:
		m.entries[file] = append(m.entries[file], route.Entry{Key: c.Key, Value: c.Value})
	case i < 0:
		return errors.New("entry not found")
	case c.Kind == route.Set:
		m.entries[file][i].Value = c.Value
	case c.Kind == route.Del:
		m.entries[file] = slices.Delete(m.entries[file], i, i+1)
	}
	return nil
}

func (m *fakeMaps) with(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *fakeMaps) has(file string, want route.Map) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := slices.SortedFunc(slices.Values(m.entries[file]), func(a, b route.Entry) int { return strings.Compare(a.Key, b.Key) })
	return len(got) == len(want) && (len(got) == 0 || cmp.Equal(got, []route.Entry(want.Table())))
}

func (m *fakeMaps) sent() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.updates
}

const webMap = "/etc/haproxy/haproxy.cfg.web.map"

func routes(want route.Map) []reconcile.RouteMap {
	return []reconcile.RouteMap{{Frontend: "web", File: webMap, Want: want.Table(), Routes: []reconcile.RouteState{}}}
}

// routing is serving with a frontend whose map HAProxy has.
func routing(t *testing.T, have, want route.Map) *bench {
	b := newBench(t, true)
	b.maps = &fakeMaps{entries: map[string][]route.Entry{webMap: have.Table()}}
	b.settings.Maps = routes(want)
	b.catalog.says("api", many(1)...)
	b.adoptable()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	return b
}

func TestRoutes_HAProxyHasThem_NothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := routing(t, route.Map{"a.test/": "api_nodes"}, route.Map{"a.test/": "api_nodes"})
		b.passes(2 * time.Minute)
		if got := b.maps.sent(); got != 0 {
			t.Errorf("%d updates", got)
		}
		if f := b.agent.State().Frontends; len(f) != 1 || f[0].Applied.IsZero() || f[0].Error != "" {
			t.Errorf("the state has %+v", f)
		}
	})
}

func TestRoutes_NewSettings_AreInHAProxyAtOnceWithoutReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := routing(t, route.Map{"a.test/": "api_nodes"}, route.Map{"a.test/": "api_nodes"})
		want := route.Map{"b.test/": "api_nodes", "a.test/v1/": "api_nodes/1"}
		b.settings.Maps = routes(want)
		b.agent.Reconfigure(b.settings)
		b.eventually("the routes are there", 10*time.Millisecond, func() bool { return b.maps.has(webMap, want) })
		b.passes(time.Minute)
		b.wantTold("reload")
		if got := b.maps.sent(); got != 1 {
			t.Errorf("%d updates, want one", got)
		}
		if strings.Contains(b.log.String(), "drift") {
			t.Errorf("new settings are called drift:\n%s", b.log)
		}
	})
}

func TestRoutes_ChangedByAnotherProgram_ArePutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := route.Map{"a.test/": "api_nodes"}
		b := routing(t, want, want)
		b.maps.with(func() { b.maps.entries[webMap] = nil })
		b.eventually("put back", b.settings.Reconcile+time.Second, func() bool { return b.maps.has(webMap, want) })
		if !strings.Contains(b.log.String(), "drift corrected: route added") {
			t.Errorf("the log says nothing:\n%s", b.log)
		}
	})
}

// One slow answer of HAProxy's does not put off the next look at the maps for long.
func TestRoutes_ReadSlowlyOnce_AreComparedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := route.Map{"a.test/": "api_nodes"}
		b := routing(t, want, want)
		b.maps.with(func() { b.maps.takes = 3 * time.Second })
		b.passes(b.settings.Reconcile + 4*time.Second)
		b.maps.with(func() { b.maps.takes, b.maps.entries[webMap] = 0, nil })
		b.eventually("put back", max(time.Minute, b.settings.Reconcile)+time.Second, func() bool { return b.maps.has(webMap, want) })
	})
}

func TestRoutes_UpdateFails_IsReportedOnceAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, fault := range map[string]func(m *fakeMaps){
			"refused": func(m *fakeMaps) { m.refuse = errors.New("Permission denied") },
			"ignored": func(m *fakeMaps) { m.ignore = true },
		} {
			b := routing(t, route.Map{}, route.Map{})
			want := route.Map{"a.test/": "api_nodes"}
			b.maps.with(func() { fault(b.maps) })
			b.settings.Maps = routes(want)
			b.agent.Reconfigure(b.settings)
			b.passes(time.Minute)
			if f := b.agent.State().Frontends[0]; f.Error == "" {
				t.Errorf("%s: the state has no error", name)
			}
			if v := b.agent.State().Verdict(); v.Status != reconcile.Degraded {
				t.Errorf("%s: the verdict is %s", name, v.Status)
			}
			if got := strings.Count(b.log.String(), "routes update failed"); got != 1 {
				t.Errorf("%s: logged %d times", name, got)
			}
			b.maps.with(func() { b.maps.refuse, b.maps.ignore = nil, false })
			b.eventually("applied", 2*time.Minute, func() bool {
				return b.maps.has(webMap, want) && b.agent.State().Frontends[0].Error == ""
			})
			b.stop()
		}
	})
}

// Routes that come with other settings come by the reload: HAProxy may lack their
// backend until then.
func TestRoutes_WithSettingsThatTakeAReload_WaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := routing(t, route.Map{}, route.Map{})
		want := route.Map{"a.test/": "web_nodes"}
		b.settings.Maps = routes(want)
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t", Services: "other", Settings: "s"}}
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.ReloadDebounce - time.Millisecond)
		if got := b.maps.sent(); got != 0 {
			t.Errorf("%d updates before the reload", got)
		}
		b.eventually("the routes are there after the reload", 10*time.Second, func() bool { return b.maps.has(webMap, want) })
		if got := b.recorder.told("reload"); len(got) != 1 {
			t.Errorf("reloads: %q", got)
		}
	})
}

// A large map takes long to be read: a new route does not wait for that, and what was
// sent is read back. Where another program has changed the map meanwhile, it is read,
// and ends right all the same.
func TestRoutes_NewSettings_DoNotWaitForTheMapToBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		have := route.Map{"a.test/": "api_nodes"}
		want := route.Map{"a.test/": "api_nodes", "b.test/": "api_nodes"}
		for name, drift := range map[string]func(m *fakeMaps){
			"as it was": func(*fakeMaps) {},
			"added by another program": func(m *fakeMaps) {
				m.entries[webMap] = append(m.entries[webMap], route.Entry{Key: "b.test/", Value: "other"})
			},
			"removed by another program": func(m *fakeMaps) { m.entries[webMap] = nil },
		} {
			b := routing(t, have, have)
			b.maps.with(func() {
				m := b.maps
				drift(m)
				m.calls = nil
			})
			b.settings.Maps = routes(want)
			b.agent.Reconfigure(b.settings)
			b.eventually(name, 10*time.Millisecond, func() bool { return b.maps.has(webMap, want) })
			b.passes(time.Second)
			b.maps.with(func() {
				if calls := b.maps.calls; len(calls) < 2 || calls[0] != "update" || calls[len(calls)-1] == "update" || !slices.Contains(calls, "read") {
					t.Errorf("%s: %q, want an update first, then a read, and a look at what was sent last", name, calls)
				}
			})
			if strings.Contains(b.log.String(), "failed") {
				t.Errorf("%s: the log has\n%s", name, b.log)
			}
			b.stop()
		}
	})
}

// One route that is new costs one command and a look at it, however many there are. The
// whole map is compared as often as without new routes: where they come without end, drift is
// found all the same.
func TestRoutes_OneIsNew_ItAloneIsReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := route.Map{"a.test/": "api_nodes"}
		b := routing(t, want, want)
		b.passes(time.Second)
		reads, every := 0, time.Second
		for n := range int(5 * b.settings.Reconcile / every) {
			b.maps.with(func() { b.maps.calls = nil })
			if n == 20 {
				b.maps.with(func() { b.maps.entries[webMap][0].Value = "other" })
			}
			want["b.test/"] = fmt.Sprintf("api_nodes/%d", 1+n%2)
			b.reroute(want)
			b.passes(every)
			b.maps.with(func() {
				reads += strings.Count(strings.Join(b.maps.calls, " "), "read")
				if !slices.Contains(b.maps.calls, "read") && !slices.Equal(b.maps.calls, []string{"update", "find"}) {
					t.Errorf("%q, want an update and a look at it", b.maps.calls)
				}
			})
		}
		if reads < 4 || reads > 8 {
			t.Errorf("the map was read %d times in five intervals", reads)
		}
		if !b.maps.has(webMap, want) || b.log.count("drift corrected") != 1 {
			t.Errorf("HAProxy has %v, the log has\n%s", b.maps.entries, b.log)
		}
	})
}

// reroute has the frontend's map as the only difference.
func (b *bench) reroute(want route.Map) {
	b.settings.Maps, b.settings.OnlyRoutes = routes(want), true
	b.settings.Renderer = &fakeRenderer{marker: b.settings.Renderer.Marker(), routes: fmt.Sprint(want)}
	b.agent.Reconfigure(b.settings)
}

// Where only routes are new, they come into HAProxy and into the file, and nothing else is
// read or made again: with a thousand services that would take longer than all else.
func TestRoutes_OnlyTheyAreNew_NothingElseIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web", "third")
		b.maps = &fakeMaps{entries: map[string][]route.Entry{}}
		b.settings.Maps = routes(route.Map{})
		for _, s := range []string{"api", "web", "third"} {
			b.catalog.says(s, many(1)...)
		}
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		b.settings.Reconcile = time.Hour // the comparison of everything
		b.agent.Reconfigure(b.settings)
		b.reroute(route.Map{"b.test/": "api_nodes"}) // the first write of the file does not wait
		b.passes(5 * time.Second)
		b.haproxy.with(func() { b.haproxy.observed = nil })
		want := route.Map{"a.test/": "api_nodes"}
		b.reroute(want)
		b.eventually("the route is there", 10*time.Millisecond, func() bool { return b.maps.has(webMap, want) })
		b.haproxy.with(func() {
			if len(b.haproxy.observed) > 0 {
				t.Errorf("read again before the route was there: %q", b.haproxy.observed)
			}
		})
		b.eventually("the route is in the file", time.Second, func() bool {
			content, _ := b.file.Read()
			return bytes.Contains(content, []byte("a.test/"))
		})
		b.passes(5 * time.Second)
		b.haproxy.with(func() { // another process would be noticed
			if diff := cmp.Diff([][]string{{"api_nodes"}}, b.haproxy.observed); diff != "" {
				t.Errorf("read after the file was written (-want +got):\n%s", diff)
			}
		})
		// Other settings that come at the same moment are not lost.
		b.settings.OnlyRoutes = false
		b.agent.Reconfigure(b.settings)
		b.reroute(route.Map{})
		b.passes(time.Second)
		if got := b.agent.State().Frontends[0]; !b.maps.has(webMap, route.Map{}) || got.Error != "" {
			t.Errorf("%+v", got)
		}
		b.haproxy.with(func() {
			if !slices.ContainsFunc(b.haproxy.observed, func(backends []string) bool { return len(backends) == 3 }) {
				t.Error("other settings came with the routes, and not all is read again")
			}
		})
	})
}

// While HAProxy reloads, new routes wait for the worker that is about to begin. Until then
// they are not called applied.
func TestRoutes_NewWhileHAProxyReloads_AreNotCalledApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, false)
		b.maps = &fakeMaps{entries: map[string][]route.Entry{}}
		b.settings.Maps = routes(route.Map{})
		b.catalog.says("api", many(1)...)
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		if b.agent.State().Frontends[0].Applied.IsZero() {
			t.Fatal("no routes are wanted, and that is not called applied")
		}
		held := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad = held })
		b.catalog.says("api", many(40)...)
		b.eventually("a reload for more slots", 5*time.Second, func() bool { return b.agent.State().Reloads.UnderWay })
		want := route.Map{"a.test/": "api_nodes"}
		b.reroute(want)
		b.passes(time.Second)
		if f := b.agent.State().Frontends[0]; b.maps.has(webMap, want) || !f.Applied.IsZero() {
			t.Errorf("while HAProxy reloads: %+v", f)
		}
		close(held)
		b.eventually("the route is there", 5*time.Second, func() bool { return b.maps.has(webMap, want) && !b.agent.State().Frontends[0].Applied.IsZero() })
	})
}

// Routes that change without end leave the file behind all the time. It has the servers, so
// that a drain goes on.
func TestRoutes_ChangeWithoutEnd_DrainsGoOn(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, instance("api-1", 1), instance("api-2", 2))
		b.settings.FileDelay = 100 * time.Millisecond
		b.agent.Reconfigure(b.settings)
		b.passes(5 * time.Second)
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2, leaving))
		var before int
		b.file.with(func() { before = len(b.file.written) })
		for n := range 60 {
			b.reroute(route.Map{fmt.Sprintf("h%d.test/", n): "api_nodes"})
			b.passes(50 * time.Millisecond)
		}
		if !b.drained("api-2") {
			t.Error("api-2 is not drained after 3 s")
		}
		b.file.with(func() {
			if got := len(b.file.written) - before; got < 10 {
				t.Errorf("the file was written %d times in 3 s", got)
			}
		})
		b.passes(time.Second)
		if s := b.agent.State(); !s.File.Current || s.File.Pending {
			t.Errorf("the file at the end: %+v", s.File)
		}
	})
}

// In a container, a HAProxy that starts again has the PID of the one before, and it may have
// read map files from before the last changes.
func TestRoutes_HAProxyStartsAgainWithItsPID_ComparedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := route.Map{"a.test/": "api_nodes", "b.test/": "api_nodes"}
		b := routing(t, route.Map{"a.test/": "api_nodes"}, want)
		b.passes(10 * time.Second)
		pid := 0
		b.haproxy.with(func() { pid = b.haproxy.pid })
		b.haproxy.stop()
		b.passes(b.settings.Reconcile) // it is noticed
		b.maps.with(func() { b.maps.entries[webMap] = route.Map{"a.test/": "api_nodes"}.Table() })
		b.haproxy.start()
		b.haproxy.with(func() { b.haproxy.pid = pid })
		b.passes(300 * time.Millisecond)
		if !b.maps.has(webMap, want) {
			t.Error("a route is missing")
		}
	})
}

// Until Consul has said what services claim, a route that HAProxy has and that a service may
// have claimed stays: the sidecar before may have ended before haproxy.cfg had it. All others
// come and go as the settings say.
func TestRoutes_ClaimsAreNotKnown_WhatMayBeClaimedStaysUntilTheyAre(t *testing.T) {
	for name, c := range map[string]struct {
		want, shown route.Map
		isApplied   bool
	}{
		"besides":   {route.Map{"a.test/": "api_nodes", "own.test/": "api_nodes"}, route.Map{"a.test/": "api_nodes", "own.test/": "api_nodes", "young.test/": "shop"}, true},
		"otherwise": {route.Map{"a.test/": "api_nodes", "young.test/": "api_nodes"}, route.Map{"a.test/": "api_nodes", "young.test/": "shop"}, false},
		// The one that is to have it may have left it.
		"another's":  {route.Map{"a.test/": "api_nodes", "heard.test/": "api_nodes"}, route.Map{"a.test/": "api_nodes", "heard.test/": "heard", "young.test/": "shop"}, false},
		"both heard": {route.Map{"a.test/": "api_nodes", "heard.test/": "other_heard"}, route.Map{"a.test/": "api_nodes", "heard.test/": "other_heard", "young.test/": "shop"}, true},
	} {
		t.Run(name, inTime(func(t *testing.T) {
			b := newBench(t, true)
			have := route.Map{"young.test/": "shop", "own.test/": "other", "left.test/": "api_nodes", "heard.test/": "heard"}
			b.maps = &fakeMaps{entries: map[string][]route.Entry{webMap: have.Table()}}
			b.settings.Maps = routes(c.want)
			b.settings.Maps[0].Keep = func(e route.Entry) bool {
				return e.Key == "young.test/" || e.Key == "a.test/" || e.Key == "heard.test/"
			}
			b.settings.Unheard = func(backend string) bool { return !strings.HasSuffix(backend, "heard") }
			b.catalog.says("api", many(1)...)
			b.adoptable()
			b.start()
			b.passes(2 * b.settings.Reconcile)
			if f := b.agent.State().Frontends[0]; !b.maps.has(webMap, c.shown) || f.Applied.IsZero() == c.isApplied || f.Error != "" {
				t.Errorf("HAProxy has %v, want %v; the state says %+v", b.maps.entries, c.shown, f)
			}
			b.maps.with(func() { b.maps.entries[webMap][0].Value = "shop" })
			b.passes(2 * b.settings.Reconcile)
			if f := b.agent.State().Frontends[0]; !f.Applied.IsZero() {
				t.Errorf("HAProxy has another service for a route, and the state says %+v", f)
			}
			if n := b.log.count("routes update failed"); n > 0 {
				t.Errorf("the log has\n%s", b.log)
			}
			b.reroute(c.want)
			b.eventually("the routes are those wanted", time.Second, func() bool { return b.maps.has(webMap, c.want) && !b.agent.State().Frontends[0].Applied.IsZero() })
		}))
	}
}

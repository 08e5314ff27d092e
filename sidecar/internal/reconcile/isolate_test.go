package reconcile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// partRenderer renders the settings of services, which stand in the marker as
// "api=1 web=2". What a file has of a service is its word there.
type partRenderer struct {
	settings map[string]string
	shared   bool // no service can be kept alone
}

func (r *partRenderer) Marker() plan.Marker {
	var all []string
	for backend, s := range r.settings {
		all = append(all, backend+"="+s)
	}
	slices.Sort(all)
	var names []string
	for _, a := range all {
		names = append(names, strings.Split(a, "=")[0])
	}
	return plan.Marker{Template: "t1", Services: strings.Join(names, " "), Settings: strings.Join(all, " ")}
}

func (r *partRenderer) Render(backends []plan.FileBackend) ([]byte, error) {
	m := r.Marker()
	backends = slices.DeleteFunc(slices.Clone(backends), func(b plan.FileBackend) bool { return r.settings[b.Backend] == "" })
	return json.Marshal(fakeContent{Mark: m.String(), Marker: m, Backends: backends})
}

// Blame reads "[ALERT] api_nodes web_nodes".
func (r *partRenderer) Blame(_ []byte, rejected error) []string {
	words, ok := strings.CutPrefix(rejected.Error(), "[ALERT] ")
	if !ok {
		return nil
	}
	return strings.Fields(words)
}

func (r *partRenderer) Operator(string) []string { return nil }

func (r *partRenderer) Without(backend string, good []byte) (reconcile.Renderer, string, bool, error) {
	if r.shared {
		return nil, "", false, errors.New("shared")
	}
	out := &partRenderer{settings: map[string]string{}}
	for b, s := range r.settings {
		if b != backend {
			out.settings[b] = s
		}
	}
	var c fakeContent
	if json.Unmarshal(good, &c) == nil {
		for s := range strings.FieldsSeq(c.Marker.Settings) {
			if before, found := strings.CutPrefix(s, backend+"="); found {
				out.settings[backend] = before
				return out, "check as " + before, true, nil
			}
		}
	}
	return out, "", false, nil
}

// rejectBad rejects a content in which the settings of a service are "bad".
func rejectBad(content []byte) error {
	var c fakeContent
	if err := json.Unmarshal(content, &c); err != nil {
		return err
	}
	var bad []string
	for s := range strings.FieldsSeq(c.Marker.Settings) {
		if backend, found := strings.CutSuffix(s, "=bad"); found {
			bad = append(bad, backend)
		}
	}
	if len(bad) > 0 {
		return errors.New("[ALERT] " + strings.Join(bad, " "))
	}
	return nil
}

// poisoned is a bench of api and web, served with their settings 1.
func poisoned(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, true, "api", "web")
	b.settings.ReloadInterval = time.Second
	b.settings.Renderer = &partRenderer{settings: map[string]string{"api_nodes": "1", "web_nodes": "1"}}
	b.catalog.says("api", instance("api-1", 1))
	b.catalog.says("web", instance("web-1", 9))
	d := plan.Desired{Marker: b.settings.Renderer.Marker(), Services: b.settings.Services}
	content, err := b.settings.Renderer.Render(plan.Compute(d, plan.Observed{Caps: b.haproxy.caps}, b.catalog.Snapshot()).File)
	if err != nil {
		t.Fatal(err)
	}
	b.file.content, b.file.reject = content, rejectBad
	b.haproxy.start()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	return b
}

// reconfigure sets the services' settings: "api_nodes=2 web_nodes=bad".
func (b *bench) reconfigure(settings string) { b.reconfigureWith(settings, nil) }

func (b *bench) reconfigureWith(settings string, change func(api *plan.Service)) {
	r := &partRenderer{settings: map[string]string{}}
	b.settings.Services = nil
	for s := range strings.FieldsSeq(settings) {
		backend, value, _ := strings.Cut(s, "=")
		r.settings[backend] = value
		b.settings.Services = append(b.settings.Services, policyOf(strings.TrimSuffix(backend, "_nodes")))
	}
	if change != nil {
		change(&b.settings.Services[0])
	}
	b.settings.Renderer = r
	b.agent.Reconfigure(b.settings)
}

func (b *bench) wantRuns(settings string) {
	b.t.Helper()
	b.eventually("HAProxy runs "+settings, 10*time.Second, func() bool {
		var got string
		b.haproxy.with(func() { got = b.haproxy.marker.Settings })
		return got == settings
	})
}

func (b *bench) wantLeftOut(want string) {
	b.t.Helper()
	got := ""
	for _, l := range b.agent.State().File.LeftOut {
		got += fmt.Sprintf("%s %s %v %s;", l.Service, l.Backend, l.AsBefore, l.Error)
	}
	if got != want {
		b.t.Errorf("left out: got %q, want %q", got, want)
	}
}

func TestAServiceThatHAProxyRejectsStaysAsItWasAndTheRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.reconfigure("api_nodes=bad web_nodes=2")
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.wantLeftOut("api api_nodes true [ALERT] api_nodes;")
		if n := b.log.count("service configuration rejected", "api_nodes", "as_before=true"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		// Its instances still come and go, with the options that it had.
		var options []string
		b.haproxy.with(func() {
			b.haproxy.fail = func(st plan.Step) error {
				options = append(options, st.Options)
				return nil
			}
		})
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.eventually("api-2 is served", time.Second, func() bool { return len(b.haproxy.shows("api_nodes")) == 2 })
		if !slices.Equal(options, []string{"check as 1"}) {
			t.Errorf("added with the options %q, want those of before", options)
		}
		b.passes(time.Minute)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
		if s := b.agent.State(); !s.File.Current || s.File.Error != "" || s.Reloads.Failed != 0 || s.Reloads.Succeeded != 1 {
			t.Errorf("got %+v, %+v, want the file current, and one reload", s.File, s.Reloads)
		}
		// It is corrected.
		b.reconfigure("api_nodes=3 web_nodes=2")
		b.wantRuns("api_nodes=3 web_nodes=2")
		b.wantLeftOut("")
	})
}

func TestANewServiceThatHAProxyRejectsIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.catalog.says("new", instance("new-1", 7))
		b.reconfigure("api_nodes=2 new_nodes=bad web_nodes=1")
		b.wantRuns("api_nodes=2 web_nodes=1")
		b.wantLeftOut("new new_nodes false [ALERT] new_nodes;")
		b.passes(time.Minute)
		if s := b.agent.State(); s.Reloads.Pending != "" || s.Reloads.Succeeded != 1 {
			t.Errorf("got %+v, want one reload, and none due", s.Reloads)
		}
	})
}

func TestTwoServicesThatHAProxyRejectsAreLeftOutOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.file.with(func() {
			b.file.reject = func(content []byte) error { // it stops at the first
				err := rejectBad(content)
				if err != nil && strings.Contains(err.Error(), "api_nodes") {
					return errors.New("[ALERT] api_nodes")
				}
				return err
			}
		})
		b.reconfigure("api_nodes=bad new_nodes=1 web_nodes=bad")
		b.catalog.says("new", instance("new-1", 7))
		b.wantRuns("api_nodes=1 new_nodes=1 web_nodes=1")
		if n := len(b.agent.State().File.LeftOut); n != 2 {
			t.Errorf("got %d left out, want both", n)
		}
	})
}

// What was rejected may become valid without a word: a certificate has come.
func TestWhatBecomesValidByItselfIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.reconfigure("api_nodes=bad web_nodes=2")
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.passes(time.Hour)
		if n := b.file.tries; n < 5 || n > 20 {
			t.Errorf("got %d tries in an hour, want them to grow rare", n)
		}
		if n := b.log.count("[ERROR]"); n != 2 {
			t.Errorf("got %d lines of errors, want the one of the file and the one of the service:\n%s", n, b.log)
		}
		b.file.with(func() { b.file.reject = nil })
		b.eventually("it is taken", 11*time.Minute, func() bool { return len(b.agent.State().File.LeftOut) == 0 })
		b.wantRuns("api_nodes=bad web_nodes=2")
	})
}

// A sidecar that starts again knows the settings of before from the file only.
func TestANewSidecarKeepsARejectedServiceAsItWasWithoutAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.reconfigure("api_nodes=bad web_nodes=2")
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.stop()
		b.start()
		b.passes(time.Minute)
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.wantLeftOut("api api_nodes true [ALERT] api_nodes;")
		if n := len(b.haproxy.reloadTimes()); n != 1 {
			t.Errorf("got %d reloads, want the one of the sidecar before", n)
		}
	})
}

func TestIsolate_CannotBe_LeavesNoServiceOut(t *testing.T) {
	for name, spoil := range map[string]func(*bench){
		"the words name no service": func(b *bench) {
			b.file.reject = func(content []byte) error {
				if rejectBad(content) != nil {
					return errors.New("no memory")
				}
				return nil
			}
		},
		"what it is kept as is rejected, too": func(b *bench) {
			b.file.reject = func(content []byte) error {
				if strings.Contains(string(content), "web_nodes=2") {
					return errors.New("[ALERT] api_nodes")
				}
				return nil
			}
		},
		"it cannot be told from the rest": func(b *bench) { b.settings.Renderer.(*partRenderer).shared = true },
		"HAProxy runs it, with unknown settings": func(b *bench) {
			b.file.content = []byte("{}")
		},
	} {
		t.Run(name, inTime(func(t *testing.T) {
			b := poisoned(t)
			b.passes(time.Second)
			r := &partRenderer{settings: map[string]string{"api_nodes": "bad", "web_nodes": "2"}}
			b.settings.Renderer = r
			b.file.with(func() { spoil(b) })
			if name == "HAProxy runs it, with unknown settings" {
				b.stop() // what it knows is in its memory
				b.start()
			} else {
				b.agent.Reconfigure(b.settings)
			}
			b.passes(time.Minute)
			b.wantRuns("api_nodes=1 web_nodes=1")
			b.wantLeftOut("")
			if s := b.agent.State(); s.File.Error == "" && s.Reloads.Error == "" {
				t.Errorf("got %+v, %+v, want the error", s.File, s.Reloads)
			}
			if n := len(b.haproxy.reloadTimes()); n != 0 {
				t.Errorf("got %d reloads, want none", n)
			}
			if n := b.log.count("HAProxy rejects other services too"); n > 1 {
				t.Errorf("got %d lines, want one at most:\n%s", n, b.log)
			}
		}))
	}
}

func TestAServiceThatIsRejectedStaysAsInTheFileOfAnHAProxyThatDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.stop()
		b.haproxy.stop()
		b.settings.Renderer = &partRenderer{settings: map[string]string{"api_nodes": "bad", "web_nodes": "2"}}
		b.start()
		b.passes(time.Minute)
		b.wantLeftOut("api api_nodes true [ALERT] api_nodes;")
		b.wantFile("api-1 10.0.0.1:4000")
	})
}

func TestAServiceThatIsRejectedWhileHAProxyDoesNotRunIsLeftOutOfTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.settings.Renderer = &partRenderer{settings: map[string]string{"api_nodes": "bad", "web_nodes": "1"}}
		b.file.reject = rejectBad
		b.catalog.says("api", instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.start()
		b.eventually("the file is there", 5*time.Second, func() bool { return b.file.writes() == 1 })
		b.wantLeftOut("api api_nodes false [ALERT] api_nodes;")
		b.haproxy.start()
		b.eventually("ready", 5*time.Second, func() bool { return b.agent.State().Ready })
		if got, _ := b.file.shows("web_nodes"); !slices.Equal(got, []string{"web-1 10.0.0.9:4000"}) {
			t.Errorf("got %q of web, want web-1", got)
		}
	})
}

// HAProxy runs the operator's servers of the old settings until it has loaded
// the new ones: they are neither drained nor written as the service's own.
func TestOperatorServer_LineIsRemoved_LeftAloneUntilTheReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api")
		r := &partRenderer{settings: map[string]string{"api_nodes": "1"}}
		b.settings.Renderer, b.settings.Services[0].Operator = r, []string{"sorry"}
		b.settings.ReloadDebounce, b.settings.ReloadMaxDelay = 2*time.Second, 2*time.Second
		b.catalog.says("api", instance("api-1", 1))
		content, err := r.Render([]plan.FileBackend{{Service: "api", Backend: "api_nodes", Known: true, Servers: []plan.FileServer{{Name: "api-1", Addr: addr(1), Weight: 1}}}})
		if err != nil {
			t.Fatal(err)
		}
		b.file.content = content
		b.haproxy.start()
		b.haproxy.with(func() {
			b.haproxy.backends["api_nodes"] = append(b.haproxy.backends["api_nodes"], &fakeServer{changed: time.Now(), Server: plan.Server{
				ID: 99, Name: "sorry", Addr: netip.MustParseAddrPort("10.0.0.99:80"), Weight: 1, Checked: true, Up: true,
			}})
		})
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })

		b.reconfigure("api_nodes=2")
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(time.Second)
		if got := b.haproxy.server("api_nodes", "sorry"); got == nil || got.Admin != plan.Ready {
			t.Errorf("before the reload: got %+v, want it ready", got)
		}
		if got, _ := b.file.shows("api_nodes"); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "sorry") }) {
			t.Errorf("the file has the operator's server as the service's own: %q", got)
		}
		b.wantRuns("api_nodes=2")
		for _, step := range b.haproxy.steps() {
			if strings.Contains(step, "sorry") {
				t.Errorf("sent %q", step)
			}
		}
	})
}

// A rejected service keeps the whole of its policy, not only its options.
func TestRejectedService_StaticBalanceAndLimit_StayAsTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.reconfigureWith("api_nodes=bad web_nodes=1", func(s *plan.Service) { s.Static, s.ForceSlots, s.MaxConn = true, true, 1 })
		b.eventually("the service is left out", 5*time.Second, func() bool { return len(b.agent.State().File.LeftOut) == 1 })
		b.catalog.says("api", instance("api-1", 1), instance("api-2", 2))
		b.passes(5 * time.Second)
		got := b.haproxy.server("api_nodes", "api-2")
		if got == nil {
			t.Fatalf("the new instance is not added: HAProxy has %q", b.haproxy.shows("api_nodes"))
		}
		if got.MaxConn != 0 {
			t.Errorf("got maxconn %d of the rejected settings, want none", got.MaxConn)
		}
	})
}

// A discovered service that is kept has defaults of its own, by which HAProxy cannot add it:
// should its backend be lost, a reload brings it.
func TestIsolate_DiscoveredServiceKept_ComesByReloadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := poisoned(t)
		b.haproxy.with(func() { b.haproxy.caps.Backends = true })
		discovered := func(api *plan.Service) { api.Defaults, api.Mode = "pointsman.profile.web", "http" }
		b.reconfigureWith("api_nodes=1 web_nodes=2", discovered)
		b.wantRuns("api_nodes=1 web_nodes=2")
		b.passes(time.Second)
		b.reconfigureWith("api_nodes=bad web_nodes=3", discovered)
		b.wantRuns("api_nodes=1 web_nodes=3")
		b.wantLeftOut("api api_nodes true [ALERT] api_nodes;")
		b.passes(time.Minute)
		b.haproxy.with(func() { delete(b.haproxy.backends, "api_nodes"); b.haproxy.sent = nil })
		b.passes(2 * time.Minute) // a comparison of everything
		b.haproxy.with(func() {
			if _, has := b.haproxy.backends["api_nodes"]; !has || slices.ContainsFunc(b.haproxy.sent, func(line string) bool { return strings.HasPrefix(line, "add_backend") }) {
				t.Errorf("the backend is there: %v, sent were %q", has, b.haproxy.sent)
			}
		})
	})
}

// Routes or pauses that become new while HAProxy tries a file are no other settings: a
// service that it rejects is left out at once, by a reload and where HAProxy does not run.
func TestIsolate_RoutesAreNewWhileAFileIsTried_LeavesOutAtOnce(t *testing.T) {
	for name, runs := range map[string]bool{"reload": true, "write while HAProxy is stopped": false} {
		t.Run(name, inTime(func(t *testing.T) {
			b := poisoned(t)
			b.passes(5 * time.Second)
			if !runs {
				b.haproxy.stop()
				b.passes(time.Second)
			}
			hold := make(chan struct{})
			b.file.with(func() { b.file.hold = hold })
			b.reconfigure("api_nodes=bad web_nodes=2")
			b.passes(2 * time.Second)
			for range 2 {
				b.settings.Renderer = &partRenderer{settings: b.settings.Renderer.(*partRenderer).settings}
				b.settings.OnlyRoutes = true
				b.agent.Reconfigure(b.settings)
				b.passes(10 * time.Millisecond)
			}
			b.file.with(func() { b.file.hold = nil })
			close(hold)
			b.passes(time.Millisecond)
			b.wantLeftOut("api api_nodes true [ALERT] api_nodes;")
			if runs {
				b.wantRuns("api_nodes=1 web_nodes=2")
			}
			if s := b.agent.State(); s.Reloads.Failed != 0 {
				t.Errorf("got %+v, want no reload that failed", s.Reloads)
			}
		}))
	}
}

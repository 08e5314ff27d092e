package plan_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func policyOf(name string) plan.Service {
	s := desired().Services[0]
	s.Name, s.Backend = name, name+"_nodes"
	return s
}

// Of several reasons the one that says most is named.
func TestReloadReason(t *testing.T) {
	type world struct {
		d plan.Desired
		o plan.Observed
		s catalog.Snapshot
	}
	marker := func(change func(*plan.Marker)) func(*world) {
		return func(w *world) { change(&w.o.Marker) }
	}
	foreign := func(w *world) { w.o.Marker = plan.Marker{} }
	template := marker(func(m *plan.Marker) { m.Template = "other" })
	services := marker(func(m *plan.Marker) { m.Services = "other" })
	settings := marker(func(m *plan.Marker) { m.Settings = "other" })
	missing := func(w *world) { delete(w.o.Backends, "web_nodes") }
	exhausted := func(w *world) {
		w.o.Caps.Dynamic = false
		w.s = w.s.With(catalog.Service{Name: "api_nodes", Known: true, Instances: []catalog.Instance{instance("api-1", 1)}})
	}
	unknown := func(w *world) { w.s = w.s.With(catalog.Service{Name: "web_nodes"}) }
	owner := marker(func(m *plan.Marker) { m.Owner = "other" })
	requested := func(w *world) { w.d.Requested = true }
	down := func(w *world) { w.o = plan.Observed{Caps: w.o.Caps} }

	all := []func(*world){exhausted, settings, services, missing, template, foreign}
	for _, c := range []struct {
		name string
		is   []func(*world)
		want plan.ReloadReason
	}{
		{"nothing", nil, plan.NoReload},
		{"no slot", []func(*world){exhausted}, plan.SlotsExhausted},
		{"other settings", []func(*world){settings}, plan.SettingsChanged},
		{"another owner", []func(*world){owner}, plan.SettingsChanged},
		{"another set of backends", []func(*world){services}, plan.ServiceRemoved},
		{"no such backend", []func(*world){missing}, plan.ServiceAdded},
		{"another template", []func(*world){template}, plan.TemplateChanged},
		{"not ours", []func(*world){foreign}, plan.NotOurs},

		{"settings before slots", all[:2], plan.SettingsChanged},
		{"services before settings", all[:3], plan.ServiceRemoved},
		{"a backend to be added before one to be removed", all[:4], plan.ServiceAdded},
		{"the template before services", all[:5], plan.TemplateChanged},
		{"not ours before all", all, plan.NotOurs},

		{"not ours, and what belongs into it is not known", []func(*world){foreign, missing, unknown}, plan.NoReload},
		{"not ours, and who is not known runs already", []func(*world){foreign, unknown}, plan.NotOurs},
		{"a backend that is not known yet does not hold what is ours", []func(*world){missing, unknown}, plan.ServiceAdded},
		{"requested", []func(*world){requested}, plan.Requested},
		{"a need before a request", []func(*world){exhausted, requested}, plan.SlotsExhausted},
		{"requested, not ours, and what belongs into it is not known", []func(*world){foreign, missing, unknown, requested}, plan.NoReload},
		{"requested, and HAProxy does not run", []func(*world){requested, down}, plan.NoReload},
		{"HAProxy does not run", append(slices.Clone(all), down), plan.NoReload},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := world{
				d: plan.Desired{Marker: ours, Services: []plan.Service{policyOf("api"), policyOf("web")}},
				o: plan.Observed{
					Running: true, Marker: ours, Caps: plan.Capabilities{Dynamic: true},
					Backends: map[string]plan.Backend{"api_nodes": {}, "web_nodes": {}},
				},
				s: known("api").With(catalog.Service{Name: "web_nodes", Known: true}),
			}
			for _, change := range c.is {
				change(&w)
			}
			if got := plan.Compute(w.d, w.o, w.s).Reload; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Only the count of a node that leaves, which is soon there, is waited for, and only
// by a reload that brings slots.
func TestHoldReload(t *testing.T) {
	uncounted := func(s *plan.Server) { s.Sessions, s.Uncounted = 1, true }
	for _, c := range []struct {
		name     string
		admin    plan.Admin
		change   func(*plan.Server)
		instance catalog.Instance
		marker   plan.Marker
		want     bool
	}{
		{"drained, and old workers are being counted", plan.Drain, uncounted, instance("web-1", 9, leaving), ours, true},
		{"in maint, and old workers are being counted", plan.Maint, uncounted, instance("web-1", 9, leaving), ours, true},
		{"it has a session", plan.Drain, func(s *plan.Server) { s.Sessions = 1 }, instance("web-1", 9, leaving), ours, false},
		{"it is drained", plan.Maint, func(*plan.Server) {}, instance("web-1", 9, leaving), ours, false},
		{"it does not leave", plan.Maint, uncounted, instance("web-1", 9, critical), ours, false},
		{"a reload for more than slots", plan.Drain, uncounted, instance("web-1", 9, leaving), plan.Marker{Template: "t", Services: "s", Settings: "other"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := plan.Server{ID: 1, Name: "slot-1", Addr: addr(9), Admin: c.admin, Weight: 1}
			c.change(&s)
			p := plan.Compute(plan.Desired{Marker: ours, Services: []plan.Service{policyOf("api"), policyOf("web")}}, plan.Observed{
				Running: true, Marker: c.marker, Backends: map[string]plan.Backend{"api_nodes": {}, "web_nodes": {Servers: []plan.Server{s}}},
			}, known("api", instance("api-1", 1)).With(catalog.Service{Name: "web_nodes", Known: true, Instances: []catalog.Instance{c.instance}}))
			if p.HoldReload != c.want || p.Reload == plan.NoReload {
				t.Errorf("got %v with reload %q, want %v", p.HoldReload, p.Reload, c.want)
			}
		})
	}
}

func TestEveryReloadReasonAndKindIsListed(t *testing.T) {
	wantReasons := []plan.ReloadReason{
		plan.NotOurs, plan.ServiceAdded, plan.ServiceRemoved, plan.SettingsChanged, plan.TemplateChanged, plan.SlotsExhausted, plan.WeightsChanged, plan.Requested,
	}
	if diff := cmp.Diff(wantReasons, plan.ReloadReasons); diff != "" {
		t.Errorf("ReloadReasons (-want +got):\n%s", diff)
	}
	wantKinds := []plan.Kind{
		plan.Add, plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.SetWeight, plan.SetMaxConn, plan.SetAddr, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.Shutdown,
		plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend,
	}
	if diff := cmp.Diff(wantKinds, plan.Kinds); diff != "" {
		t.Errorf("Kinds (-want +got):\n%s", diff)
	}
}

// One plan is one line of commands: whatever adds capacity, to any service, is
// in it before whatever takes some away.
func TestAllAdditionsComeBeforeAllRemovals(t *testing.T) {
	ready := func(id int, name string, n int) plan.Server {
		return plan.Server{ID: id, Name: name, Addr: addr(n), Up: true, Weight: 1, Checked: true}
	}
	o := plan.Observed{Running: true, Marker: ours, Caps: plan.Capabilities{Dynamic: true}, Backends: map[string]plan.Backend{
		"api_nodes": {Servers: []plan.Server{ready(1, "api-1", 1), ready(2, "api-2", 2)}},
		"web_nodes": {Servers: []plan.Server{ready(1, "web-1", 3), ready(2, "web-2", 4)}},
	}}
	snap := known("api", instance("api-1", 1), instance("api-2", 2, critical)).With(catalog.Service{
		Name: "web_nodes", Known: true,
		Instances: []catalog.Instance{instance("web-1", 3), instance("web-2", 4, leaving), instance("web-3", 5)},
	})
	d := plan.Desired{Marker: ours, Services: []plan.Service{policyOf("api"), policyOf("web")}}
	got := printPlan(plan.Compute(d, o, snap))
	want := []string{
		"add web-3 .5 check: registered, prove",
		"maint api-2: unhealthy",
		"wait web-2: replacement",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A backend is planned by its own service alone.
func TestOneUnknownServiceDoesNotHoldTheOthers(t *testing.T) {
	o := plan.Observed{Running: true, Marker: ours, Caps: plan.Capabilities{Dynamic: true}, Backends: map[string]plan.Backend{
		"api_nodes": {}, "web_nodes": {Servers: []plan.Server{{ID: 1, Name: "web-1", Addr: addr(1), Up: true, Weight: 1}}},
	}}
	d := plan.Desired{Marker: ours, Services: []plan.Service{policyOf("api"), policyOf("web")}}
	got := printPlan(plan.Compute(d, o, known("api", instance("api-1", 1))))
	want := []string{"add api-1 .1 check: registered, prove", "wait: consul"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

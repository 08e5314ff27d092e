package plan_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestMaintenanceIsReadFromItsBackendWhichIsNoServices(t *testing.T) {
	lb := func(name string, admin plan.Admin) plan.Backend {
		return plan.Backend{Servers: []plan.Server{{ID: 1, Name: name, Admin: admin}}}
	}
	api := plan.Backend{Servers: []plan.Server{{ID: 1, Name: plan.RotationServer, Admin: plan.Maint}}}
	for _, c := range []struct {
		name     string
		backends map[string]plan.Backend
		want     bool
	}{
		{"no such backend", nil, false},
		{"ready", map[string]plan.Backend{plan.RotationBackend: lb("lb", plan.Ready)}, false},
		{"drain, which the health answer does not know", map[string]plan.Backend{plan.RotationBackend: lb("lb", plan.Drain)}, false},
		{"maint", map[string]plan.Backend{plan.RotationBackend: lb("lb", plan.Maint)}, true},
		{"another server", map[string]plan.Backend{plan.RotationBackend: lb("other", plan.Maint)}, false},
	} {
		o := plan.Observed{Running: true, Maintenance: !c.want, Backends: map[string]plan.Backend{"api": api}}
		maps.Copy(o.Backends, c.backends)
		got := o.WithMaintenance()
		if got.Maintenance != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got.Maintenance, c.want)
		}
		if len(got.Backends) != 1 || len(got.Backends["api"].Servers) != 1 || !got.Running {
			t.Errorf("%s: the rest: got %+v, want it as it was", c.name, got)
		}
	}
}

func TestTheFileHoldsMaintenanceWhetherOrNotHAProxyRuns(t *testing.T) {
	for _, running := range []bool{true, false} {
		for _, on := range []bool{true, false} {
			o := plan.Observed{Running: running, Maintenance: on}
			p := plan.Compute(plan.Desired{Rotation: true, Services: []plan.Service{policyOf("zeta"), policyOf("api")}}, o, catalog.Snapshot{})
			var names []string
			for _, b := range p.File {
				names = append(names, b.Backend)
				if b.Backend == plan.RotationBackend && (b.Servers[0].Disabled != on || !b.Known) {
					t.Errorf("running %v, maintenance %v: got %+v", running, on, b)
				}
			}
			if diff := cmp.Diff(names, []string{"api_nodes", plan.RotationBackend, "zeta_nodes"}); diff != "" {
				t.Errorf("backends of the file (-got +want):\n%s", diff)
			}
			if len(p.Steps) > 0 {
				t.Errorf("steps: got %v, want none", p.Steps)
			}
		}
	}
	if p := plan.Compute(plan.Desired{}, plan.Observed{Maintenance: true}, catalog.Snapshot{}); len(p.File) > 0 {
		t.Errorf("without a health answer: got %+v, want nothing in the file", p.File)
	}
}

func TestMaintenanceIn(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       bool
	}{
		{"an empty file", "", false},
		{"in rotation", "backend pointsman.rotation\n    server lb 127.0.0.1:9 weight 1\n", false},
		{"out of it", "global\n  log x\nbackend pointsman.rotation\n    mode http\n    server lb 127.0.0.1:9 weight 1 disabled\nbackend api\n    server lb 127.0.0.1:9\n", true},
		{"another backend's server", "backend pointsman.rotation\n    server lb 127.0.0.1:9\nbackend api\n    server lb 127.0.0.1:9 disabled\n", false},
		{"only another backend has such a server", "backend pointsman.rotation\nbackend api\n    server lb 127.0.0.1:9 disabled\n", false},
		{"another server", "backend pointsman.rotation\n    server slot 127.0.0.1:9 disabled\n", false},
		{"only another backend has such a server", "backend pointsman.rotation\nbackend api\n    server lb 127.0.0.1:9 disabled\n", false},
		{"a comment", "backend pointsman.rotation\n    # server lb 127.0.0.1:9 disabled\n", false},
	} {
		if got := plan.MaintenanceIn(c.file); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// discovered is a service whose backend HAProxy 3.4 adds and deletes.
func discovered() plan.Service {
	s := policyOf("api")
	s.Defaults, s.Mode = "pointsman.profile.web", "http"
	return s
}

func gone(s *plan.Service) { s.Gone = true }

// What is to be done with a whole backend, and what by a reload.
func TestWholeBackend(t *testing.T) {
	up := plan.Server{ID: 1, Name: "api-1", Addr: addr(1), Weight: 1, ConfigWeight: 1, Checked: true, Up: true}
	down, drained, maint, busy := up, up, up, up
	down.Up, down.SinceChange = false, 3*time.Second
	drained.Admin = plan.Drain
	maint.Admin, maint.Up = plan.Maint, false
	busy.Admin, busy.Sessions = plan.Drain, 1
	late := down
	late.SinceChange = 30 * time.Second
	old := plan.Capabilities{Version: "3.2.26", Dynamic: true}
	unpublished := func(s ...plan.Server) *plan.Backend { return &plan.Backend{Servers: s, Unpublished: true, Adds: true} }
	published := func(s ...plan.Server) *plan.Backend { return &plan.Backend{Servers: s, Adds: true} }
	one := known("api", instance("api-1", 1))
	for name, c := range map[string]struct {
		change func(*plan.Service)
		caps   plan.Capabilities
		marker plan.Marker
		has    *plan.Backend // nil: HAProxy does not have it
		snap   catalog.Snapshot
		absent time.Duration
		// refused is HAProxy's word against a step of the backend.
		refused string
		want    string
		reload  plan.ReloadReason
		why     string // of the reload
	}{
		"HAProxy does not have it":                       {snap: one, want: "add_backend from pointsman.profile.web mode http"},
		"before 3.4":                                     {snap: one, caps: old, reload: plan.ServiceAdded, why: "HAProxy 3.2.26 adds no backends at runtime, 3.4 and newer do"},
		"it has no defaults":                             {snap: one, change: func(s *plan.Service) { s.Defaults, s.ByReload = "", "profile web has sticky.cookie" }, reload: plan.ServiceAdded, why: "profile web has sticky.cookie"},
		"it is one of the settings":                      {snap: one, change: func(s *plan.Service) { s.Defaults = "" }, reload: plan.ServiceAdded, why: "it is a service of the settings"},
		"HAProxy refuses to add it":                      {snap: one, refused: "taken", reload: plan.ServiceAdded, why: "taken"},
		"HAProxy refused, and has other settings":        {snap: one, refused: "taken", marker: plan.Marker{Template: "t", Services: "s", Settings: "h"}, reload: plan.ServiceAdded, why: "taken"},
		"HAProxy refuses to publish it":                  {snap: one, refused: "no", has: unpublished(up), reload: plan.ServiceAdded, why: "no"},
		"HAProxy refused what is done by now":            {snap: one, refused: "no", has: published(up)},
		"it goes, and HAProxy refuses to unpublish it":   {change: gone, refused: "no", has: published(up), reload: plan.ServiceRemoved, why: "no"},
		"it goes, and HAProxy refuses to delete it":      {change: gone, refused: "no", has: unpublished(), reload: plan.ServiceRemoved, why: "no"},
		"it has gone, though HAProxy refused":            {change: gone, refused: "no"},
		"HAProxy has other settings":                     {snap: one, marker: plan.Marker{Template: "t", Services: "s", Settings: "h"}, reload: plan.SettingsChanged},
		"Consul has said nothing of it":                  {snap: catalog.NewSnapshot()},
		"it was added":                                   {snap: one, has: unpublished(), want: "add api-1"},
		"its server is down":                             {snap: one, has: unpublished(down)},
		"its server is up":                               {snap: one, has: unpublished(up), want: "publish_backend"},
		"one is up and one down":                         {snap: known("api", instance("api-1", 1), instance("api-2", 2)), has: unpublished(up, plan.Server{ID: 2, Name: "api-2", Addr: addr(2), Weight: 1, ConfigWeight: 1, Checked: true}), want: "publish_backend"},
		"its server does not come up":                    {snap: one, has: unpublished(late), want: "publish_backend"},
		"it has no instance":                             {snap: known("api"), has: unpublished()},
		"its instance is not well":                       {snap: known("api", instance("api-1", 1, critical)), has: unpublished()},
		"HAProxy refuses its server again and again":     {snap: one, has: unpublished(), absent: time.Minute, want: "add api-1; publish_backend"},
		"it is published":                                {snap: one, has: published(up)},
		"it goes":                                        {change: gone, has: published(up), want: "unpublish_backend"},
		"it goes, and its server takes traffic":          {change: gone, has: unpublished(up), want: "drain api-1"},
		"it goes, and Consul still has an instance":      {change: gone, snap: one, has: unpublished(up), want: "drain api-1"},
		"it goes, and its server has a session":          {change: gone, has: unpublished(busy)},
		"it goes, and its server is drained":             {change: gone, has: unpublished(drained), want: "maint api-1"},
		"it goes, and its server is out":                 {change: gone, has: unpublished(maint), want: "delete api-1"},
		"it goes, and a free slot is there":              {change: gone, has: &plan.Backend{Servers: []plan.Server{{ID: 1, Name: "slot-1", Addr: addr(9), Admin: plan.Maint}}, Unpublished: true, Refuses: true}, want: "delete slot-1"},
		"it goes, and has no server":                     {change: gone, has: unpublished(), want: "delete_backend"},
		"it has gone":                                    {change: gone},
		"it has gone, before 3.4":                        {change: gone, caps: old},
		"it goes before 3.4":                             {change: gone, caps: old, has: published(up), reload: plan.ServiceRemoved, why: "HAProxy 3.2.26 adds no backends at runtime, 3.4 and newer do"},
		"it goes before 3.4 while the settings are new":  {change: gone, caps: old, marker: plan.Marker{Template: "t", Services: "s", Settings: "h"}, has: published(up), reload: plan.ServiceRemoved, why: "HAProxy 3.2.26 adds no backends at runtime, 3.4 and newer do"},
		"it goes while the settings are new":             {change: gone, marker: plan.Marker{Template: "t", Services: "s", Settings: "h"}, has: published(up), reload: plan.SettingsChanged},
		"it goes with all its servers, whatever is kept": {change: func(s *plan.Service) { s.Gone, s.MinServers, s.MaxLossRatio = true, 5, 0 }, has: unpublished(up), want: "drain api-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := discovered()
			if c.change != nil {
				c.change(&s)
			}
			o := plan.Observed{
				Running: true, Marker: ours, Caps: plan.Capabilities{Version: "3.4.7", Dynamic: true, Backends: true}, Backends: map[string]plan.Backend{},
				Absent: map[string]map[string]time.Duration{s.Backend: {"api-1": c.absent}},
			}
			if c.caps.Version != "" {
				o.Caps = c.caps
			}
			if c.marker.Template != "" {
				o.Marker = c.marker
			}
			if c.refused != "" {
				o.Refused = map[string]string{s.Backend: c.refused}
			}
			if c.has != nil {
				o.Backends[s.Backend] = *c.has
			}
			p := plan.Compute(plan.Desired{Marker: ours, Services: []plan.Service{s}}, o, c.snap)
			var got []string
			for _, st := range p.Steps {
				line := strings.TrimSpace(string(st.Kind) + " " + st.Server)
				if st.Kind == plan.AddBackend {
					line += fmt.Sprintf(" from %s mode %s", st.Defaults, st.Mode)
				}
				got = append(got, line)
			}
			if text := strings.Join(got, "; "); text != c.want || p.Reload != c.reload {
				t.Errorf("got %q with reload %q, want %q with %q", text, p.Reload, c.want, c.reload)
			}
			why := ""
			for _, cause := range p.ReloadFor {
				why += cause.Why
				if cause.Backend != s.Backend {
					t.Errorf("the reload is for %s, want %s", cause.Backend, s.Backend)
				}
			}
			if why != c.why {
				t.Errorf("the reload is because %q, want %q", why, c.why)
			}
			if s.Gone == (len(p.File) > 0) {
				t.Errorf("the file has it: %+v", p.File)
			}
		})
	}
}

// A backend that comes, and one that goes, do so in a bounded number of steps that
// HAProxy takes, and no session is lost that ends in time.
func TestWholeBackend_ComesAndGoes_ByStepsThatHAProxyTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(true, ours)
		m.o.Caps = plan.Capabilities{Version: "3.4.7", Dynamic: true, Backends: true}
		snap := known("api", genInstances(t, "instances")...)
		rounds := rapid.SliceOfN(rapid.Bool(), 1, 4).Draw(t, "goes")
		for round, isGone := range rounds {
			s := discovered()
			s.Gone = isGone
			d := plan.Desired{Marker: ours, Services: []plan.Service{s}}
			walk := rapid.IntRange(0, 12).Draw(t, "passes") // the next round may begin midway
			if round == len(rounds)-1 {
				walk = 100
			}
			for pass := 0; ; pass++ {
				p := plan.Compute(d, m.observed(), snap)
				if p.Reload != plan.NoReload {
					t.Fatalf("reload %s", p.Reload)
				}
				for _, st := range p.Steps {
					if i := slices.IndexFunc(m.servers(s.Backend), func(x plan.Server) bool { return x.Name == st.Server && x.Sessions > 0 }); i >= 0 && st.Kind == plan.Delete {
						t.Fatalf("%s with sessions", printStep(st))
					}
					if err := m.apply(st); err != nil {
						t.Fatal(err)
					}
				}
				b, exists := m.o.Backends[s.Backend]
				if exists == !isGone && (!b.Unpublished || m.serving(s.Backend) == 0) && len(p.Steps) == 0 {
					break
				}
				if pass >= walk && walk < 100 {
					break
				}
				if pass == 100 {
					t.Fatalf("gone %v: after %d passes exists %v, unpublished %v, steps %v", isGone, pass, exists, b.Unpublished, p.Steps)
				}
				m.pass(time.Second)
			}
			for i := range m.o.Backends[s.Backend].Servers {
				m.o.Backends[s.Backend].Servers[i].Sessions = rapid.IntRange(0, 5).Draw(t, "sessions")
			}
		}
	})
}

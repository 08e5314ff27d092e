package render_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

// A template that prints no profiles gives each backend all of its own: it is as if
// there were no profiles.
func TestNew_TemplateWithoutProfiles_RendersAsWithoutThem(t *testing.T) {
	before, rest, _ := strings.Cut(templates.HAProxy, "{{- range .Profiles}}")
	_, after, isCut := strings.Cut(rest, "{{- end}}")
	if !isCut {
		t.Fatal("the built-in template prints no profiles")
	}
	text := before + after
	const files = "crt /etc/haproxy/client.pem"
	plain := settings(api(func(s *render.Service) {
		s.BackendExtra, s.ServerFiles = []string{"http-request set-header X-Y z"}, files
	}))
	profiled := plain
	profiled.Services = append([]render.Service{}, plain.Services...)
	profiled.Services[0].Defaults = "discovered"
	profiled.Profiles = []render.Service{profiled.Services[0]}
	profiled.Profiles[0].Backend = ""
	for _, c := range []struct {
		name  string
		strip func(*render.Settings)
	}{
		{"a service of a profile", func(*render.Settings) {}},
		{"no service yet", func(s *render.Settings) { s.Services = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, profiled := plain, profiled
			c.strip(&plain)
			c.strip(&profiled)
			r, err := render.New("t", text, profiled)
			if err != nil {
				t.Fatal(err)
			}
			want, err := newRenderer(t, text, plain).Render(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Render(nil); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, got:\n%s\nwant:\n%s", err, got, want)
			}
		})
	}
}

// Before any service is found, as with discovery: HAProxy must answer with the marker, or
// it is reloaded again and again.
func TestNew_NoService_FileHasTheMarker(t *testing.T) {
	s := settings()
	s.Services = nil
	r := newRenderer(t, templates.HAProxy, s)
	content, err := r.Render([]plan.FileBackend{})
	if err != nil {
		t.Fatal(err)
	}
	if want := plan.MarkerVariable + " " + r.Marker().String() + "\n"; !strings.Contains(string(content), want) {
		t.Errorf("got no %q in:\n%s", want, content)
	}
}

// What HAProxy adds and deletes as it runs is not in the marker, also beside none and as the
// first service; what only a reload brings is.
func TestMarker_ServiceOfAProfile_IsNotInIt(t *testing.T) {
	profile := settings(api(func(s *render.Service) { s.Name, s.Backend, s.Defaults = "", "", "pointsman.profile.web" })).Services[0]
	shop := profile
	shop.Name, shop.Backend = "shop", "shop"
	alone := shop
	alone.Defaults = ""
	with := func(services ...render.Service) plan.Marker {
		s := settings()
		s.Profiles, s.Services = []render.Service{profile}, services
		return newRenderer(t, templates.HAProxy, s).Marker()
	}
	own := settings(api(func(*render.Service) {})).Services[0]
	if with() != with(shop) || with(own) != with(own, shop) {
		t.Error("a service of a profile changes the marker")
	}
	if with(own) == with(own, alone) || with(own) == with() {
		t.Error("a service of its own does not change the marker")
	}
}

// A keyword that has no effect in a backend which HAProxy adds as it runs keeps the backends
// in the file, wherever their defaults have it.
func TestNew_DefaultsHaveWhatIsIgnoredAtRuntime_BackendsStayInTheFile(t *testing.T) {
	shop := settings(api(func(s *render.Service) { s.Name, s.Backend, s.Defaults = "shop", "shop", "pointsman.profile.web" })).Services[0]
	other := shop
	other.Name, other.Backend, other.Defaults = "other", "other", "pointsman.profile.other"
	profiled := func(change func(*render.Settings)) *render.Renderer {
		s := settings()
		s.Services = []render.Service{shop, other}
		s.Profiles = []render.Service{shop, other}
		for i := range s.Profiles {
			s.Profiles[i].Backend = ""
		}
		change(&s)
		return newRenderer(t, templates.HAProxy, s)
	}
	const compression = "compression algo gzip"
	for _, c := range []struct {
		name         string
		change       func(*render.Settings)
		shop, others bool // HAProxy may add the backends
	}{
		{"nowhere", func(*render.Settings) {}, true, true},
		{"in one profile", func(s *render.Settings) { s.Profiles[0].BackendExtra = []string{compression} }, false, true},
		{"in all defaults", func(s *render.Settings) { s.DefaultsExtra = []string{compression} }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := profiled(c.change)
			content, err := r.Render(nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]bool{shop.Defaults: c.shop, other.Defaults: c.others} {
				got, why := r.Defaults(name)
				if (got == name) != want || (why == "") != want || !want && !strings.Contains(why, "compression") {
					t.Errorf("%s: got %q, because %q, want it: %v", name, got, why, want)
				}
				if has := bytes.Contains(content, []byte(" from "+name+"\n")); has != want {
					t.Errorf("%s: backends are made from it: %v, want %v:\n%s", name, has, want, content)
				}
			}
		})
	}
}

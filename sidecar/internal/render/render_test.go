package render_test

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/templates"
)

var update = flag.Bool("update", false, "rewrite testdata/*.cfg with what comes out")

// settings is what an operator has who has set nothing but a service.
func settings(change ...func(*render.Settings)) render.Settings {
	s := render.Settings{
		RuntimeSocket: "/run/haproxy/admin.sock", SocketMode: "660",
		HardStopAfter: 30 * time.Second, MaxReloads: 10,
		Timeouts: []render.Timeout{
			{Name: "connect", Value: time.Second}, {Name: "client", Value: 30 * time.Second}, {Name: "server", Value: 1500 * time.Millisecond},
		},
		Services: []render.Service{{
			Backend: "api_nodes", Bind: []string{"127.0.0.1:8080"}, Mode: "http", Balance: "roundrobin",
			RetryOn: []string{"conn-failure", "empty-response"},
			Check: render.Check{
				Enabled: true, Path: "/healthz", Inter: time.Second, FastInter: 200 * time.Millisecond, DownInter: 500 * time.Millisecond,
				Timeout: 500 * time.Millisecond, Rise: 1, Fall: 2,
			},
		}},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

// api changes the one service.
func api(change func(*render.Service)) func(*render.Settings) {
	return func(s *render.Settings) { change(&s.Services[0]) }
}

func newRenderer(t *testing.T, text string, s render.Settings) *render.Renderer {
	t.Helper()
	r, err := render.New("haproxy.cfg.tmpl", text, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func server(name, addr string, change ...func(*plan.FileServer)) plan.FileServer {
	f := plan.FileServer{Name: name, Addr: netip.MustParseAddrPort(addr), Weight: 1}
	for _, c := range change {
		c(&f)
	}
	return f
}

func backends(servers ...plan.FileServer) []plan.FileBackend {
	return []plan.FileBackend{{Service: "api", Backend: "api_nodes", Known: true, Servers: servers}}
}

// What the golden files hold is what HAProxy has accepted: the real one is
// asked about each.
func TestRender(t *testing.T) {
	one := []plan.FileServer{server("api-1", "10.0.0.1:4000")}
	disabled := func(f *plan.FileServer) { f.Disabled = true }
	for _, c := range []struct {
		name     string
		template string // "": the built-in one
		settings render.Settings
		servers  []plan.FileServer
	}{
		{name: "http_with_check", settings: settings(), servers: one},
		{name: "http_check_with_host", servers: one, settings: settings(api(func(s *render.Service) { s.Check.Host = "api.example" }))},
		{name: "http_check_by_connecting", servers: one, settings: settings(api(func(s *render.Service) { s.Check.Path = "" }))},
		{name: "http_without_check", servers: one, settings: settings(api(func(s *render.Service) { s.Check = render.Check{} }))},
		{name: "tcp", servers: one, settings: settings(api(func(s *render.Service) {
			s.Mode, s.RetryOn, s.Check.Path, s.Balance = "tcp", nil, "", "leastconn"
		}))},
		{name: "backend_only", servers: one, settings: settings(api(func(s *render.Service) { s.Bind = nil }))},
		{name: "no_servers", settings: settings()},
		{name: "servers_of_all_kinds", settings: settings(), servers: []plan.FileServer{
			server("api-1", "10.0.0.1:4000", func(f *plan.FileServer) { f.Weight = 256 }),
			server("api-2", "[2001:db8::7]:4000"),
			server("drained", "10.0.0.3:4000", func(f *plan.FileServer) { f.Weight = 0 }),
			server("in-maint", "10.0.0.4:4000", disabled),
			server("behind", "10.0.0.5:4000", func(f *plan.FileServer) { f.Backup = true }),
			server("limited", "10.0.0.6:4000", func(f *plan.FileServer) { f.MaxConn = 5 }),
			server("all.of:it_1", "[::1]:65535", disabled, func(f *plan.FileServer) { f.Backup, f.MaxConn, f.Weight = true, 7, 10 }),
			server("slot-1", "127.0.0.1:9", disabled),
		}},
		{name: "all_that_can_be_set", servers: one, settings: settings(func(s *render.Settings) {
			s.Log, s.MaxConn, s.Threads = "127.0.0.1:514 local0", 5000, 2
			s.GlobalExtra = []string{"spread-checks 5", "stats timeout 10s"}
			s.DefaultsExtra = []string{"option http-server-close", "maxconn 1000"}
			s.StatsBind, s.StatsURI = "127.0.0.1:8404", "/stats"
			s.Services[0].Bind = []string{"127.0.0.1:8080", "[::1]:8080"}
			s.Services[0].ServerOptions = "observe layer4"
			s.Services[0].FrontendExtra = []string{"http-request set-header X-Forwarded-Proto http"}
			s.Services[0].BackendExtra = []string{"option forwardfor", "cookie SRV insert nocache"}
			tcp := s.Services[0]
			tcp.Backend, tcp.Bind, tcp.Mode, tcp.RetryOn = "db_nodes", []string{"127.0.0.1:5432"}, "tcp", nil
			tcp.Check.Path, tcp.ServerOptions, tcp.FrontendExtra, tcp.BackendExtra = "", "", nil, nil
			s.Services = append(s.Services, tcp)
		})},
		{name: "exporter", servers: one, settings: settings(func(s *render.Settings) { s.ExporterBind, s.ExporterURI = "127.0.0.1:8406", "/metrics" })},
		{name: "health_answer", servers: one, settings: settings(func(s *render.Settings) { s.HealthBind, s.HealthURI = "127.0.0.1:8405", "/health" })},
		{name: "frontends", servers: one, settings: settings(func(s *render.Settings) {
			tcp := s.Services[0]
			tcp.Backend, tcp.Bind, tcp.Mode, tcp.RetryOn, tcp.Check.Path = "db_nodes", nil, "tcp", nil, ""
			s.Services[0].Bind = nil
			s.Services = append(s.Services, tcp)
			s.Log, s.MapPath = "127.0.0.1:514 local0", mapPath
			s.Frontends = []render.Frontend{
				{
					Name: "web", Bind: []string{"127.0.0.1:8080"}, Mode: "http", LoadBalancer: "lb0",
					RedirectHTTPS: true, ALPN: []string{"h2", "http/1.1"}, HSTS: 365 * 24 * time.Hour, Forwarded: "replace",
					LogFormat: "%ci %[var(txn.pm_route)]", Extra: []string{"http-request deny if { path /.git }"},
					Routes: []route.Route{
						{Host: "*.example.com", Path: "/cart", Backend: "api_nodes", Strip: 1},
						{Host: "api.example.com", Backend: "api_nodes", Methods: []string{"GET"}, Headers: []route.Header{{Name: "X-A"}}},
					},
				},
				{Name: "tls", Bind: []string{"127.0.0.1:8443"}, Mode: "tcp", LoadBalancer: "lb0", Default: "db_nodes", Routes: []route.Route{{Host: "db.example.com", Backend: "db_nodes"}}},
				{Name: "append", Bind: []string{"127.0.0.1:8081"}, Mode: "http", LoadBalancer: "lb0", Forwarded: "append", Default: "api_nodes"},
			}
		})},
		{name: "previews", servers: one, settings: previewed()},
		{name: "operators_template", servers: one, settings: settings(), template: operators},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := c.template
			if text == "" {
				text = templates.HAProxy
			}
			got, err := newRenderer(t, text, c.settings).Render(backends(c.servers...))
			if err != nil {
				t.Fatal(err)
			}
			golden := "testdata/" + c.name + ".cfg"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withoutMarker(string(want)), withoutMarker(string(got))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
			haproxyAccepts(t, got)
		})
	}
}

// operators is an operator's own template, which ends without a line's end.
const operators = `global
    stats socket {{.RuntimeSocket}} mode {{.SocketMode}} level admin
defaults
    timeout connect 1s
    timeout client 1s
    timeout server 1s
{{range .Services}}
backend {{.Backend}}
    # {{join .RetryOn ","}}, {{ms $.HardStopAfter}}
{{range .Servers}}    {{.}}
{{end}}{{end}}# the end`

// withoutMarker hides the digests: a golden file should not change with a
// comment in the template.
func withoutMarker(cfg string) string {
	var b strings.Builder
	for line := range strings.Lines(cfg) {
		if strings.Contains(line, plan.MarkerVariable) {
			line = "    setenv " + plan.MarkerVariable + " (marker)\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// mapPath is where the golden files have their map files.
const mapPath = "/etc/haproxy/haproxy.cfg"

func haproxyAccepts(t *testing.T, cfg []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	file, err := render.NewFile(path, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(t.Context(), bytes.ReplaceAll(cfg, []byte(mapPath), []byte(path))); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), haproxytest.Binary(t), "-c", "-f", path).CombinedOutput()
	if err != nil {
		t.Errorf("HAProxy rejects it: %v\n%s\n%s", err, out, cfg)
	}
	if strings.Contains(string(out), "[WARNING]") {
		t.Errorf("HAProxy warns:\n%s\n%s", out, cfg)
	}
}

// `add server` gives a server the words that its line in the file has, or the
// two would differ after a reload.
func TestTheServersLineHasTheOptionsThatAddServerGets(t *testing.T) {
	s := settings(api(func(s *render.Service) { s.ServerOptions = "observe layer4" }))
	got, err := newRenderer(t, templates.HAProxy, s).Render(backends(server("api-1", "10.0.0.1:4000")))
	if err != nil {
		t.Fatal(err)
	}
	want := "    server api-1 10.0.0.1:4000 " + s.Services[0].Options() + " weight 1\n"
	if !strings.Contains(string(got), want) {
		t.Errorf("got\n%s\nwant a line %q", got, want)
	}
}

func TestTheFileStartsWithOurHeader(t *testing.T) {
	got, err := newRenderer(t, operators, settings()).Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(got), render.Header+"\n") {
		t.Errorf("got %.100q, want %q first", got, render.Header)
	}
}

// The marker in the file is the one that the agent waits to hear from HAProxy.
func TestTheFileHasTheMarker(t *testing.T) {
	r := newRenderer(t, templates.HAProxy, settings())
	got, err := r.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := r.Marker()
	want := "setenv " + plan.MarkerVariable + " 1." + m.Template + "." + m.Services + "." + m.Settings + "\n"
	if !strings.Contains(string(got), want) {
		t.Errorf("got\n%s\nwant a line %q", got, want)
	}
	for _, digest := range []string{m.Template, m.Services, m.Settings} {
		if len(digest) != 12 || strings.Trim(digest, "0123456789abcdef") != "" {
			t.Errorf("got %q, want 12 hexadecimal digits", digest)
		}
	}
}

// The marker decides on reloads: it changes if and only if what it stands for
// does.
func TestMarkerChangesWithWhatItCovers(t *testing.T) {
	base := newRenderer(t, templates.HAProxy, settings()).Marker()
	second := func(s *render.Settings) {
		more := s.Services[0]
		more.Backend, more.Bind = "web_nodes", nil
		s.Services = append(s.Services, more)
	}
	for _, c := range []struct {
		name                         string
		text                         string
		change                       func(*render.Settings)
		template, services, settings bool // changes
	}{
		{"nothing", templates.HAProxy, func(*render.Settings) {}, false, false, false},
		{"a comment in the template", templates.HAProxy + "{{/* x */}}", func(*render.Settings) {}, true, false, false},
		{"a timeout", templates.HAProxy, func(s *render.Settings) { s.Timeouts[0].Value++ }, false, false, true},
		{"a line of the operator's", templates.HAProxy, api(func(s *render.Service) { s.BackendExtra = []string{"option forwardfor"} }), false, false, true},
		{"a bind", templates.HAProxy, api(func(s *render.Service) { s.Bind = nil }), false, false, true},
		{"a time of the check", templates.HAProxy, api(func(s *render.Service) { s.Check.Inter = 2 * time.Second }), false, false, true},
		{"a backend's name", templates.HAProxy, api(func(s *render.Service) { s.Backend = "other" }), false, true, true},
		{"a service more", templates.HAProxy, second, false, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := newRenderer(t, c.text, settings(c.change)).Marker()
			if changed := got.Template != base.Template; changed != c.template {
				t.Errorf("template changed: got %v, want %v", changed, c.template)
			}
			if changed := got.Services != base.Services; changed != c.services {
				t.Errorf("services changed: got %v, want %v", changed, c.services)
			}
			if changed := got.Settings != base.Settings; changed != c.settings {
				t.Errorf("settings changed: got %v, want %v", changed, c.settings)
			}
		})
	}
}

func TestMarkerDoesNotChangeWithTheServers(t *testing.T) {
	r := newRenderer(t, templates.HAProxy, settings())
	before := r.Marker()
	one, err := r.Render(backends(server("api-1", "10.0.0.1:4000")))
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.Render(backends(server("api-2", "10.0.0.2:4000")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Marker() != before || markerLine(one) != markerLine(two) {
		t.Errorf("got %s and %s, want one marker", markerLine(one), markerLine(two))
	}
}

// The set of backends is the same in whatever order it was written down.
func TestMarkerOfServicesDoesNotDependOnTheirOrder(t *testing.T) {
	other := settings().Services[0]
	other.Backend, other.Bind = "web_nodes", nil
	one := settings(func(s *render.Settings) { s.Services = append(s.Services, other) })
	two := settings(func(s *render.Settings) { s.Services = append([]render.Service{other}, s.Services...) })
	a, b := newRenderer(t, templates.HAProxy, one).Marker(), newRenderer(t, templates.HAProxy, two).Marker()
	if a.Services != b.Services {
		t.Errorf("got %s and %s, want the same", a.Services, b.Services)
	}
}

func markerLine(cfg []byte) string {
	for line := range strings.Lines(string(cfg)) {
		if strings.Contains(line, plan.MarkerVariable) {
			return line
		}
	}
	return "no marker"
}

func TestTemplateErrorsNameTemplateAndLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no template", "global\n{{range}}\n", "mine.tmpl:2"},
		{"no such function", "global\n\n    {{nbthread}}\n", "mine.tmpl:3"},
		{"no such setting", "global\n    nbthread {{.Thread}}\n", "mine.tmpl:2"},
		{"no such setting of a service", "{{range .Services}}\nbackend {{.Backend}}\n    {{.Nodes}}\n{{end}}", "mine.tmpl:3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := render.New("mine.tmpl", c.text, settings())
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "render: template") {
				t.Errorf("got %v, want an error of the template that names %s", err, c.want)
			}
		})
	}
}

func TestRejectedErrorNamesTheFileThatWasKept(t *testing.T) {
	var err error = &render.RejectedError{Path: "/etc/haproxy/haproxy.cfg.rejected", Output: "[ALERT] no"}
	if _, ok := errors.AsType[*render.RejectedError](err); !ok || !strings.Contains(err.Error(), "haproxy.cfg.rejected: [ALERT] no") {
		t.Errorf("got %v", err)
	}
}

// What comes out twice is kept: it must not be taken for other servers.
func TestRender_AnyOtherServer_IsRendered(t *testing.T) {
	s := settings()
	r := newRenderer(t, templates.HAProxy, s)
	server := plan.FileServer{Name: "api-1", Addr: netip.MustParseAddrPort("10.0.0.1:4000"), Weight: 1}
	was, err := r.Render(backends(server))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*plan.FileServer){
		"name": func(s *plan.FileServer) { s.Name = "api-2" }, "address": func(s *plan.FileServer) { s.Addr = netip.MustParseAddrPort("10.0.0.1:4001") },
		"weight": func(s *plan.FileServer) { s.Weight = 2 }, "maxconn": func(s *plan.FileServer) { s.MaxConn = 5 }, "backup": func(s *plan.FileServer) { s.Backup = true },
		"disabled": func(s *plan.FileServer) { s.Disabled = true }, "agent port": func(s *plan.FileServer) { s.AgentPort = 9 },
	} {
		t.Run(name, func(t *testing.T) {
			other := server
			change(&other)
			for _, model := range [][]plan.FileBackend{backends(other), backends(other), backends(server), backends(server, other), nil} {
				want, err := newRenderer(t, templates.HAProxy, s).Render(model)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := r.Render(model); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v: %v %s", model, err, cmp.Diff(string(want), string(got)))
				}
			}
		})
	}
	again, err := r.Render(backends(server))
	if err != nil || !bytes.Equal(again, was) {
		t.Errorf("got another file for the same servers: %v", err)
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = r.Render(backends(server)) }); n > 3 {
		t.Errorf("%.0f allocations for the same servers, want no more than those of the model", n)
	}
}

// previewed has a service with a preview backend, behind its own frontend and others.
func previewed() render.Settings {
	return settings(func(s *render.Settings) {
		p := s.Services[0]
		p.Backend, p.Bind = p.Backend+".preview", nil
		conditions := []string{"{ req.fhdr(X-Preview) -m str -- 's3cret' }", "{ req.cook(preview) -m found }"}
		s.Services[0].Preview = conditions
		s.Services = append(s.Services, p)
		s.MapPath = mapPath
		previews := []render.Preview{{Backend: s.Services[0].Backend, Conditions: conditions}}
		s.Frontends = []render.Frontend{
			{Name: "web", Bind: []string{"127.0.0.1:8081"}, Mode: "http", Forwarded: "off", Previews: previews, Routes: []route.Route{{Host: "a.example.com", Backend: p.Backend}}},
			{Name: "default", Bind: []string{"127.0.0.1:8082"}, Mode: "http", Forwarded: "off", Default: s.Services[0].Backend, Previews: previews},
		}
	})
}

// Where HAProxy rejects the preview backend, no rule leads there.
func TestWithout_PreviewBackend_ItsRulesGo(t *testing.T) {
	for _, backend := range []string{"api_nodes.preview", "api_nodes"} {
		rest, _, _, err := newRenderer(t, templates.HAProxy, previewed()).Without(backend, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rest.Render(nil)
		if err != nil {
			t.Fatal(err)
		}
		if leads := bytes.Contains(got, []byte("use_backend api_nodes.preview")); leads != (backend == "api_nodes") {
			t.Errorf("without %s: rules lead to the preview: %v\n%s", backend, leads, got)
		}
	}
}

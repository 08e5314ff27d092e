package render_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

// two returns the settings of two services, the second changed.
func two(change func(*render.Service)) render.Settings {
	return settings(func(s *render.Settings) {
		web := s.Services[0]
		web.Backend, web.Bind = "web_nodes", []string{"127.0.0.1:8081"}
		if change != nil {
			change(&web)
		}
		s.Services = append(s.Services, web)
	})
}

func twoBackends() []plan.FileBackend {
	return append(backends(server("api-1", "10.0.0.1:4000")), plan.FileBackend{
		Service: "web", Backend: "web_nodes", Known: true, Servers: []plan.FileServer{server("web-1", "10.0.0.9:4000"), server("web-2", "10.0.0.8:4000")},
	})
}

func render2(t *testing.T, r *render.Renderer) []byte {
	t.Helper()
	content, err := r.Render(twoBackends())
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The words are those of the real HAProxy.
func TestTheServiceThatHAProxyRejectsIsFound(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(*render.Service)
		global string
		want   []string
	}{
		{"a line of the backend", func(s *render.Service) { s.BackendExtra = []string{"fooo bar"} }, "", []string{"web_nodes"}},
		{"a word on the servers", func(s *render.Service) { s.ServerOptions = "blah" }, "", []string{"web_nodes"}},
		{"a line of the frontend", func(s *render.Service) { s.FrontendExtra = []string{"http-request deny if nope"} }, "", []string{"web_nodes"}},
		{"a certificate that is not there", func(s *render.Service) { s.Bind = []string{"127.0.0.1:8081 ssl crt /no/such.pem"} }, "", []string{"web_nodes"}},
		{"another backend that is not there", func(s *render.Service) { s.FrontendExtra = []string{"use_backend nope if TRUE"} }, "", []string{"web_nodes"}},
		{"a table that is not there", func(s *render.Service) { s.BackendExtra = []string{"stick on src table nope"} }, "", []string{"web_nodes"}},
		{"a file that is not there", func(s *render.Service) { s.BackendExtra = []string{"errorfile 503 /no/such.http"} }, "", []string{"web_nodes"}},
		{"a certificate authority of the servers that is not there", func(s *render.Service) { s.ServerOptions = "ssl verify required ca-file /no/such.pem" }, "", []string{"web_nodes"}},
		{"that, only in the section that loads it", func(s *render.Service) { s.ServerFiles = "ca-file /no/such.pem" }, "", []string{"web_nodes"}},
		{"several lines", func(s *render.Service) { s.BackendExtra = []string{"fooo bar", "baar"}; s.ServerOptions = "blah" }, "", []string{"web_nodes"}},
		{"a line of the global section", nil, "fooo", nil},
		{"that, and a service", func(s *render.Service) { s.BackendExtra = []string{"fooo bar"} }, "fooo", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := two(c.spoil)
			if c.global != "" {
				s.GlobalExtra = []string{c.global}
			}
			r, file := newRenderer(t, templates.HAProxy, s), newCfg(t)
			content := render2(t, r)
			_, err := file.Write(t.Context(), content)
			if err == nil {
				t.Fatalf("HAProxy takes it:\n%s", content)
			}
			if got := r.Blame(content, err); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q, of: %v", got, c.want, err)
			}
			if c.want == nil {
				return
			}
			// Without it, HAProxy takes the rest.
			good := render2(t, newRenderer(t, templates.HAProxy, two(nil)))
			for name, before := range map[string][]byte{"as it was": good, "not at all": nil} {
				rest, _, kept, err := r.Without("web_nodes", before)
				if err != nil || kept != (before != nil) {
					t.Fatalf("%s: kept %v, %v", name, kept, err)
				}
				content := render2(t, rest)
				if _, err := file.Write(t.Context(), content); err != nil {
					t.Errorf("%s: HAProxy rejects the rest, too: %v", name, err)
				}
				if has := strings.Contains(string(content), "server web-1 10.0.0.9:4000"); has != kept {
					t.Errorf("%s: has web's servers %v:\n%s", name, has, content)
				}
			}
		})
	}
}

func TestAnErrorThatIsNoRejectionBlamesNoService(t *testing.T) {
	r := newRenderer(t, templates.HAProxy, two(nil))
	content := render2(t, r)
	for _, err := range []error{
		errors.New("disk full"),
		&render.RejectedError{Path: "/etc/haproxy/haproxy.cfg.rejected"},
		&render.RejectedError{Path: "/etc/haproxy/haproxy.cfg.rejected", Output: "[ALERT] (1) : config : parsing [/etc/haproxy/other.cfg:40] : bad"},
		&render.RejectedError{Path: "/etc/haproxy/haproxy.cfg.rejected", Output: "[ALERT] (1) : config : parsing [/etc/haproxy/haproxy.cfg:99999] : bad"},
		&render.RejectedError{Path: "/etc/haproxy/haproxy.cfg.rejected", Output: "[ALERT] (1) : config : Proxy 'unknown': bad"},
		&render.RejectedError{Path: "/etc/haproxy/haproxy.cfg.rejected", Output: "[WARNING] (1) : config : Proxy 'web_nodes': odd"},
	} {
		if got := r.Blame(content, err); got != nil {
			t.Errorf("%v: got %q, want none", err, got)
		}
	}
}

// It keeps the text of before, with the servers of now, and it is the
// same however often it is taken out of a file again.
func TestAKeptServiceIsAsItWasWithTheServersOfNow(t *testing.T) {
	good := render2(t, newRenderer(t, templates.HAProxy, two(func(s *render.Service) {
		s.BackendExtra, s.ServerOptions = []string{"http-response set-header X-Was yes"}, "maxqueue 7 weight 3"
	})))
	r := newRenderer(t, templates.HAProxy, two(func(s *render.Service) { s.BackendExtra = []string{"fooo"} }))
	rest, options, kept, err := r.Without("web_nodes", good)
	if err != nil || !kept {
		t.Fatalf("kept %v, %v", kept, err)
	}
	if want := "check inter 1s fastinter 200ms downinter 500ms rise 1 fall 2 pool-purge-delay 1s maxqueue 7 weight 3"; options != want {
		t.Errorf("options: got %q, want %q", options, want)
	}
	if rest.Marker() == r.Marker() {
		t.Error("the marker is the same, want one of what it is made from")
	}
	b := twoBackends()
	b[1].Servers = b[1].Servers[:1]
	content, err := rest.Render(b)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for what, want := range map[string]int{
		"X-Was yes": 1, "fooo": 0, "\ndefaults pointsman.kept.web_nodes.1\n": 1, "\nbackend web_nodes from pointsman.kept.web_nodes.1\n": 1, "frontend web_nodes.front from pointsman.kept.web_nodes.1\n": 1,
		"server web-1 10.0.0.9:4000 " + options + " weight 1\n": 1, "server web-2": 0, "server api-1": 1,
	} {
		if got := strings.Count(text, what); got != want {
			t.Errorf("%q: got it %d times, want %d:\n%s", what, got, want, text)
		}
	}
	again, _, _, err := r.Without("web_nodes", content)
	if err != nil || again.Marker() != rest.Marker() {
		t.Errorf("taken out of the file that it is in: got %v, %v, want the marker %v", again.Marker(), err, rest.Marker())
	}
	// And beside another.
	both, _, _, err := rest.Without("api_nodes", content)
	if err != nil {
		t.Fatal(err)
	}
	content = render2(t, both)
	r2 := newRenderer(t, templates.HAProxy, two(func(s *render.Service) { s.BackendExtra = []string{"fooo"} }))
	one, _, _, err := r2.Without("web_nodes", content)
	if err != nil || one.Marker() != rest.Marker() {
		t.Errorf("beside another: got %v, %v, want the marker %v", one, err, rest.Marker())
	}
}

func TestWhatCannotBeKeptAloneIsRefused(t *testing.T) {
	r := newRenderer(t, templates.HAProxy, two(nil))
	const shared = "frontend all\n    use_backend api_nodes if { path /a }\n    default_backend web_nodes\n"
	for name, good := range map[string]string{
		"a frontend of several":               shared + "backend web_nodes\n    server a 10.0.0.1:80 weight 1\n",
		"servers that are not ours":           "backend web_nodes\n    server a 10.0.0.1:80\n",
		"servers that differ":                 "backend web_nodes\n    server a 10.0.0.1:80 check weight 1\n    server b 10.0.0.1:80 weight 1\n",
		"no server to learn the options from": "backend web_nodes\n    balance first\n",
	} {
		if _, _, kept, err := r.Without("web_nodes", []byte(good)); err == nil || kept {
			t.Errorf("%s: got kept %v, no error", name, kept)
		}
	}
	if _, _, _, err := r.Without("unknown", nil); err == nil {
		t.Error("a backend that is not rendered: got no error")
	}
}

func TestTryLeavesTheFileAsItIs(t *testing.T) {
	c := newCfg(t)
	if _, err := c.Write(t.Context(), []byte(valid)); err != nil {
		t.Fatal(err)
	}
	if err := c.Try(t.Context(), []byte(valid+"    # other\n")); err != nil {
		t.Errorf("a valid content: got %v", err)
	}
	rejected, ok := errors.AsType[*render.RejectedError](c.Try(t.Context(), []byte(invalid)))
	if !ok || !strings.Contains(rejected.Output, "wieght") {
		t.Errorf("an invalid content: got %v, want HAProxy's words", rejected)
	}
	if got, err := c.Read(); err != nil || string(got) != valid {
		t.Errorf("the file: got %q, %v, want it as it was", got, err)
	}
	c.wantFiles("haproxy.cfg")
}

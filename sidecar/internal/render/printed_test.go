package render_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// HAProxy would lack what a template leaves out after each reload, and the sidecar
// would reload it again.
func TestNew_TemplateLeavesOutBackendOrServers_IsRefused(t *testing.T) {
	for _, c := range []struct{ name, template, want string }{
		{"all is there", "{{range .Services}}\nbackend {{.Backend}}\n{{range .Servers}} {{.}}\n{{end}}{{end}}", ""},
		{"in a listen section", "{{range .Services}}\nlisten {{.Backend}}\n{{range .Servers}} {{.}}\n{{end}}{{end}}", ""},
		{"no backend", "defaults\n mode http\n", "prints no `backend api_nodes`"},
		{"one of two", "{{with index .Services 0}}\nbackend {{.Backend}}\n{{range .Servers}} {{.}}\n{{end}}{{end}}", "prints no `backend web_nodes`"},
		{"the service's name instead", "{{range .Services}}\nbackend x_{{.Backend}}\n{{range .Servers}} {{.}}\n{{end}}{{end}}", "prints no `backend api_nodes`"},
		{"only while there are servers", "{{range .Services}}{{if .Servers}}\nbackend {{.Backend}}\n{{range .Servers}} {{.}}\n{{end}}{{end}}{{end}}", "prints no `backend api_nodes`"},
		{"no servers", "{{range .Services}}\nbackend {{.Backend}}\n server a 127.0.0.1:1\n{{end}}", "backend api_nodes: it does not print the service's servers"},
		{"servers elsewhere", "{{range .Services}}\nbackend {{.Backend}}\nbackend more_{{.Backend}}\n{{range .Servers}} {{.}}\n{{end}}{{end}}", "backend web_nodes: it does not print the service's servers"},
	} {
		_, err := render.New("own.tmpl", c.template, render.Settings{Services: []render.Service{{Backend: "api_nodes"}, {Backend: "web_nodes"}}})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "own.tmpl")):
			t.Errorf("%s: got %v, want an error of own.tmpl with %q", c.name, err, c.want)
		}
	}
}

// Access rules of the settings come by .BackendExtra: without them a service would be
// open to all. Certificates come by .Bind.
func TestNew_TemplateLeavesOutLinesOfSettings_IsRefused(t *testing.T) {
	const backend, end = "{{range .Services}}\nbackend {{.Backend}}\n", "{{range .Servers}} {{.}}\n{{end}}{{end}}"
	const front, lines = "{{range .Services}}\nfrontend {{.Name}}\n{{range .Bind}} bind {{.}}\n{{end}}{{end}}", "{{range .BackendExtra}} {{.}}\n{{end}}"
	for _, c := range []struct{ name, template, want string }{
		{"all is there", front + backend + lines + end, ""},
		{"in a listen section", strings.ReplaceAll(front+backend, "backend ", "listen ") + lines + end, ""},
		{"no lines", front + backend + end, "own.tmpl: backend api_nodes: it does not print the line `http-request …`"},
		{"the first only", front + backend + "{{with .BackendExtra}}{{index . 0}}{{end}}\n" + end, "the line `dynamic-cookie-key …`"},
		{"in another section", "{{range .Services}}\nbackend b.{{.Backend}}\n" + lines + "{{end}}" + front + backend + end, "backend api_nodes: it does not print"},
		{"only with servers", front + backend + "{{if .Servers}}" + lines + "{{end}}" + end, "backend api_nodes: it does not print"},
		{"in a comment", front + backend + "{{range .BackendExtra}}# {{.}}\n{{end}}" + end, "backend api_nodes: it does not print"},
		{"no addresses", backend + lines + end, "no bind address with `crt-list /x/crt-list`, the certificates of backend api_nodes"},
	} {
		_, err := render.New("own.tmpl", c.template, render.Settings{Services: []render.Service{{
			Name: "api", Backend: "api_nodes", Mode: "http", Bind: []string{"*:443 ssl crt-list /x/crt-list", "*:80"},
			BackendExtra: []string{"http-request auth realm x unless { http_auth(pointsman.users.api) }", "", "# a comment", "dynamic-cookie-key hush"},
		}}})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "hush"):
			t.Errorf("%s: the error tells a secret: %v", c.name, err)
		}
	}
}

// With another name HAProxy drops the peers, and says so in a warning only.
func TestNew_TemplateSetsAnotherLocalPeer_IsRefused(t *testing.T) {
	peers := []render.Peer{{Name: "lb0"}, {Name: "lb1"}}
	for _, c := range []struct {
		name, template string
		peers          []render.Peer
		want           string
	}{
		{"none", "global\n maxconn 9\n", peers, ""},
		{"its own", "global\n localpeer lb0\n", peers, ""},
		{"another", "global\n localpeer lb9\n", peers, "own.tmpl: localpeer lb9: it is set by haproxy.peers.address"},
		{"another, for peers of the template's own", "global\n localpeer lb9\n", nil, ""},
	} {
		_, err := render.New("own.tmpl", c.template, render.Settings{Peers: c.peers})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

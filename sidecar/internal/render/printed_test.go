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

package render_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

func TestNew_DefaultServer_RefusedWhereServersAreAdded(t *testing.T) {
	const backend = "{{range .Services}}\nbackend {{.Backend}}{{range .BackendExtra}}\n {{.}}{{end}}{{range .Servers}}\n {{.}}{{end}}{{end}}\n"
	for _, c := range []struct {
		name, template string
		extra          []string
		inFile         bool
		want           string // a part of the error; "" is none
	}{
		{name: "in the backend", template: backend, extra: []string{"default-server ssl verify none"}, want: "default-server ssl verify none"},
		{name: "in the defaults before it", template: "defaults\n default-server ssl\n" + backend, want: "line 6 of the rendered file"},
		{name: "in defaults that come later", template: backend + "\ndefaults\n default-server ssl\n"},
		{name: "in named defaults of its own", template: "defaults tls\n default-server ssl\ndefaults\n mode http\n{{range .Services}}\nbackend {{.Backend}} from tls\n{{range .Servers}} {{.}}\n{{end}}{{end}}", want: "server_options"},
		{name: "in named defaults of others", template: "defaults tls\n default-server ssl\ndefaults\n mode http\nbackend theirs from tls\n" + backend},
		{name: "in the operator's own backend", template: backend + "\nbackend theirs\n default-server ssl\n server a 127.0.0.1:80\n"},
		{name: "where all servers are in the file", template: backend, extra: []string{"default-server ssl"}, inFile: true},
		{name: "in a comment", template: backend, extra: []string{"# default-server ssl"}},
	} {
		_, err := render.New("own.tmpl", c.template, render.Settings{Services: []render.Service{{Backend: "api", Mode: "tcp", BackendExtra: c.extra, InFile: c.inFile}}})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestOperator_ServersOfTheirOwn_AreNamed(t *testing.T) {
	r, err := render.New("own.tmpl", "{{range .Services}}\nbackend {{.Backend}}\n server sorry 127.0.0.1:1 backup # one\n # server no 127.0.0.1:1\n"+
		" server-template a 2 127.0.0.1:1\n server-template b 3-4 127.0.0.1:1\n{{range .Servers}} {{.}}\n{{end}}{{end}}\nbackend other\n server x 127.0.0.1:1\n",
		render.Settings{Services: []render.Service{{Backend: "api"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Operator("api"), []string{"sorry", "a1", "a2", "b3", "b4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A service is kept as it was with the operator's servers, whatever words they
// have.
func TestWithout_OperatorServers_StayLinesOfTheirOwn(t *testing.T) {
	const sorry = "server sorry 127.0.0.1:9 backup weight 5"
	good := render2(t, newRenderer(t, templates.HAProxy, two(func(s *render.Service) { s.BackendExtra = []string{sorry} })))
	r := newRenderer(t, templates.HAProxy, two(func(s *render.Service) { s.BackendExtra = []string{sorry, "fooo"} }))
	rest, options, isKept, err := r.Without("web_nodes", good)
	if err != nil || !isKept {
		t.Fatalf("kept %v, %v", isKept, err)
	}
	if strings.Contains(options, "backup") {
		t.Errorf("options of the servers: got %q, want none of the operator's words", options)
	}
	if got, want := rest.Operator("web_nodes"), []string{"sorry"}; !slices.Equal(got, want) {
		t.Errorf("got the operator's servers %q, want %q", got, want)
	}
	if n := strings.Count(string(render2(t, rest)), sorry); n != 1 {
		t.Errorf("the operator's line stands %d times in the file, want once", n)
	}
}

func TestOperator_QuotedName_IsTheName(t *testing.T) {
	r, err := render.New("own.tmpl", "{{range .Services}}\nbackend {{.Backend}}\n server 'sorry' 127.0.0.1:1\n \"server\" o\\k 127.0.0.1:1\n{{range .Servers}} {{.}}\n{{end}}{{end}}", render.Settings{Services: []render.Service{{Backend: "api"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Operator("api"), []string{"sorry", "ok"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = render.New("own.tmpl", "{{range .Services}}\nbackend {{.Backend}}\n server \"a-${X}\" 127.0.0.1:1\n{{range .Servers}} {{.}}\n{{end}}{{end}}", render.Settings{Services: []render.Service{{Backend: "api"}}})
	if err == nil || !strings.Contains(err.Error(), "variable") {
		t.Errorf("a name with a variable: got %v, want an error that says so", err)
	}
}

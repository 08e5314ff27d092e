package render_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// The backend that is rejected, as a file has it that HAProxy took: DEFAULTS stands for
// what it is made from, and FROM for how it names that.
const (
	ruledTemplate = `defaults first
    mode tcp
    balance static-rr
    timeout connect 1s
    timeout client 1s
    timeout server 1s
DEFAULTS{{range .Services}}{{if eq .Backend "web_nodes"}}
backend {{.Backend}} FROM
{{- range .BackendExtra}}
    {{.}}
{{- end}}
{{- range .Servers}}
    {{.}}
{{- end}}
{{end}}{{end}}
defaults last from first
    balance first
{{range .Services}}{{if ne .Backend "web_nodes"}}
backend {{.Backend}} from first
{{- range .Servers}}
    {{.}}
{{- end}}
{{end}}{{end}}`
	chainDefaults = "defaults middle from first\n    balance leastconn\ndefaults rules from middle\n    mode http\n"
)

// A service that is kept has the mode and the algorithm of the defaults that it was made
// from, whatever those of the file are by now, and whether or not it names them. It has them
// still when it is taken out of the file that it is in.
func TestWithout_ServiceKept_HasTheDefaultsThatItHad(t *testing.T) {
	for _, c := range []struct {
		name, defaults, from, later string
		mode, algorithm             string
	}{
		{name: "the last section before it", defaults: chainDefaults, later: chainDefaults, mode: "http", algorithm: "leastconn"},
		{name: "a section by its name", defaults: chainDefaults, from: "from middle", later: chainDefaults, mode: "tcp", algorithm: "leastconn"},
		{name: "a section that has changed", defaults: chainDefaults, from: "from rules", later: strings.Replace(chainDefaults, "leastconn", "random", 1), mode: "http", algorithm: "leastconn"},
		{name: "a section that has gone", defaults: chainDefaults, from: "from rules", later: "", mode: "http", algorithm: "leastconn"},
		{name: "none but the first", mode: "tcp", algorithm: "static-rr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			template := func(defaults, from string) string {
				return strings.NewReplacer("DEFAULTS", defaults, "FROM", from).Replace(ruledTemplate)
			}
			plain := func(extra ...string) render.Settings {
				return two(func(s *render.Service) { s.BackendExtra, s.ServerOptions = extra, "" })
			}
			good := render2(t, newRenderer(t, template(c.defaults, c.from), plain("http-response set-header X-Was yes")))
			later := c.from
			if !strings.Contains(c.later, strings.TrimPrefix(c.from, "from ")) {
				later = ""
			}
			r := newRenderer(t, template(c.later, later), plain("fooo"))
			for round := range 2 {
				rest, _, kept, err := r.Without("web_nodes", good)
				if err != nil || !kept {
					t.Fatalf("kept %v, %v", kept, err)
				}
				content := render2(t, rest)
				p := haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
				p.WriteConfig("global\n  stats socket " + p.Runtime() + " level admin\n" + string(content))
				p.Launch()
				if mode, algorithm := shown(p, "mode"), shown(p, "algo"); mode != c.mode || algorithm != c.algorithm {
					t.Errorf("round %d: mode %s and algorithm %s, want %s and %s:\n%s", round, mode, algorithm, c.mode, c.algorithm, content)
				}
				if round > 0 && string(content) != string(good) {
					t.Errorf("taken out of the file that it is in: got\n%s\nwant\n%s", content, good)
				}
				good = content
			}
		})
	}
}

// A file without a defaults section has no defaults for what is kept of it.
func TestWithout_FileWithoutDefaults_KeptServiceHasNone(t *testing.T) {
	good := []byte("backend web_nodes\n    balance first\n    server web-1 10.0.0.9:4000 check weight 1\n")
	rest, _, kept, err := newRenderer(t, ruledTemplate, two(nil)).Without("web_nodes", good)
	if err != nil || !kept {
		t.Fatalf("kept %v, %v", kept, err)
	}
	content, err := rest.Render([]plan.FileBackend{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "defaults pointsman.kept.web_nodes.1\n\nbackend web_nodes from pointsman.kept.web_nodes.1\n    balance first\n"; !strings.Contains(string(content), want) {
		t.Errorf("got no %q in:\n%s", want, content)
	}
}

// shown is a column of HAProxy's statistics of the backend.
func shown(p *haproxytest.Process, column string) string {
	head, row, _ := strings.Cut(strings.TrimPrefix(p.Command("show stat web_nodes 2 -1"), "# "), "\n")
	fields := strings.Split(row, ",")
	for i, name := range strings.Split(head, ",") {
		if name == column && i < len(fields) {
			return fields[i]
		}
	}
	return ""
}

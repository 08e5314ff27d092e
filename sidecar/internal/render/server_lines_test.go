package render_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// A template may print the servers one by one or in one piece, after any change of them.
func TestServerLines_AfterEachChange_SameAsTheServersOneByOne(t *testing.T) {
	const backend = "{{range .Services}}\nbackend {{.Backend}}"
	one, err := render.New("own.tmpl", backend+"{{range .Servers}}\n    {{.}}{{end}}{{end}}\n", settings())
	if err != nil {
		t.Fatal(err)
	}
	piece, err := render.New("own.tmpl", backend+"{{.ServerLines}}{{end}}\n", settings())
	if err != nil {
		t.Fatal(err)
	}
	servers := []plan.FileServer{
		{Name: "a", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1}, {Name: "b", Addr: netip.MustParseAddrPort("10.0.0.2:80"), Weight: 7, MaxConn: 3, Backup: true}, {Name: "c", Addr: netip.MustParseAddrPort("10.0.0.3:80"), Disabled: true},
	}
	heavier := append([]plan.FileServer{}, servers...)
	heavier[0].Weight = 9
	for _, s := range [][]plan.FileServer{servers, heavier, servers[1:], nil, servers} {
		want, err := one.Render(backends(s...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := piece.Render(backends(s...))
		if err != nil {
			t.Fatal(err)
		}
		body := func(content []byte) string {
			_, lines, _ := strings.Cut(string(content), "\nbackend ") // the marker is the template's
			return lines
		}
		if body(got) != body(want) || body(want) == "" || strings.Count(body(got), "    server ") != len(s) {
			t.Errorf("in one piece:\n%s\none by one:\n%s", body(got), body(want))
		}
	}
}

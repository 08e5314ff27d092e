package haproxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestProxies_OfARealHAProxy_NamedWithTheMarker(t *testing.T) {
	t.Parallel()
	const config = "frontend front\n  bind unix@a.sock\nbackend back\nlisten both\n  bind unix@b.sock\nbackend last\n"
	for name, o := range map[string]haproxytest.Options{
		"not ours":             {},
		"ours":                 marked(testMark),
		"of a later Pointsman": {Global: "  setenv POINTSMAN_MARK 9.later"},
	} {
		p := haproxytest.StartWith(t, o, config)
		got, err := newTestClient(t, Options{Runtime: p.Runtime()}).Proxies(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		pid, err := p.Worker()
		if err != nil {
			t.Fatal(err)
		}
		want := Proxies{PID: pid, Marked: o.Global != "", Marker: map[string]plan.Marker{"ours": testMark}[name], Names: []string{"frontend front", "backend back", "listen both", "backend last"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

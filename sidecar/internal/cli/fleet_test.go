package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func sampleFleet() fleet.Fleet {
	own := fleet.Summarize(sampleState(), sampleState().Verdict())
	return fleet.Fleet{
		By: "lb0", At: noon, Status: reconcile.Degraded,
		Reasons: []reconcile.Finding{{Status: reconcile.Degraded, Text: "lb1: not reachable: no answer within 2s\x1b[2J"}},
		LoadBalancers: []fleet.LoadBalancer{
			{Name: "lb0", Reached: true, Summary: &own, Differs: []string{"mail: x \x1b[2J"}},
			{Name: "lb1", Error: "no answer within 2s\x1b[2J"},
			{Name: "lb2", Stopped: noon.Add(-time.Minute)},
		},
	}
}

func TestStatusFleet_Tree_ShowsEveryLoadBalancer(t *testing.T) {
	var out strings.Builder
	tr := tree{out: &out, now: noon}
	tr.fleet(sampleFleet())
	want := `fleet  ! degraded  1 of 3 load balancers reached by lb0
├─ ! lb1: not reachable: no answer within 2s·[2J
├─ lb0  ! degraded  HAProxy 3.4.7, pid 42, old workers 1, reloads 2, failed 0, last 1m0s ago (service_added), Consul's oldest answer 5s ago, haproxy.cfg not current
│  ├─ ≠ mail: x ·[2J
│  ├─ api, backend b_api
│  │  ├─ 1.1  1 of 1 take traffic, 100% of the weight, sessions 0
│  │  └─ 1.0  0 of 1 take traffic, 0% of the weight, sessions 2, 1 draining
│  └─ mail
│     └─ "\x1b]0;t\a"  1 of 1 take traffic, 100% of the weight, sessions 0
├─ lb1  ✗ not reachable: no answer within 2s·[2J
└─ lb2  ✗ sidecar stopped 1m0s ago, HAProxy keeps running
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The sidecar that is asked has not checked the others' words, if it is an old one.
func TestStatusFleet_MadeUpStatus_PrintedAsText(t *testing.T) {
	var out strings.Builder
	tr := tree{out: &out, now: noon}
	f := sampleFleet()
	f.Status, f.LoadBalancers[0].Summary.Verdict.Status = "x\x1b[2J", "in_\x1b]0;step\a"
	tr.fleet(f)
	for _, want := range []string{"fleet  ! x·[2J  1 of 3", "lb0  ! in ·]0;step·  HAProxy"} {
		if !strings.Contains(out.String(), want) || strings.ContainsAny(out.String(), "\x1b\a") {
			t.Errorf("want %q:\n%q", want, out.String())
		}
	}
}

func TestStatusFleet_ExitCodes_AsTheWorstLoadBalancer(t *testing.T) {
	f := sampleFleet()
	at := `"` + served(t, api.Options{State: func() any { return nil }, Fleet: func(context.Context) any { return f }}) + `", socket: ""`
	for _, c := range []struct {
		args, out, errs string
		code            int
	}{
		{"status --fleet", "fleet  ! degraded", "", ExitDegraded},
		{"status --fleet --json", `"by": "lb0"`, "", ExitDegraded},
		{"status api --fleet", "└─ api, backend b_api", "", ExitDegraded},
		{"status b_api --fleet", "└─ api, backend b_api", "", ExitDegraded},
		{"status web --fleet", "", "status web: no load balancer that was reached routes the service", ExitFailure},
		{"status --fleet --watch", "fleet  ! degraded", "", ExitDegraded},
	} {
		code, out, errs := sidecar(t, at, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: %d, want %d\n%s%s", c.args, code, c.code, out, errs)
		}
	}
}

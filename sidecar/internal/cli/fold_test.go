package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// manyServices is a load balancer with n services of three instances; an instance of each
// of the first few drains, and one of the last few is down.
func manyServices(n, draining, down int) *reconcile.State {
	s := sampleState()
	up, leaving := s.Services[0].Instances[1], s.Services[0].Instances[0]
	failing := up
	failing.Phase, failing.Reason = reconcile.PhaseDown, "HAProxy's check fails"
	s.Services = nil
	for i := range n {
		svc := reconcile.ServiceState{Name: fmt.Sprintf("svc-%02d", i), Known: true, Instances: []reconcile.InstanceState{up, up, up}}
		svc.Backend = svc.Name
		if i < draining {
			svc.Instances = append(svc.Instances, leaving)
		}
		if i >= n-down {
			svc.Instances = append(svc.Instances, failing)
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

// screenOf returns the lines that a watch shows on a terminal.
func screenOf(t *testing.T, columns, rows int, show func(*tree)) []string {
	t.Helper()
	var out strings.Builder
	s := &statusScreen{out: &out, options: statusOptions{watch: true}, size: func() (int, int) { return columns, rows }}
	if err := s.show(view{tree: func(tr *tree) { tr.now = noon; show(tr) }}); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.TrimPrefix(out.String(), home), noColour, "")
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func TestStatus_WatchOnASmallTerminal_HidesWhatIsInStepFirst(t *testing.T) {
	for _, c := range []struct {
		name           string
		n, drain, down int
		want, not      []string
	}{
		{
			"all fits", 2, 1, 0,
			[]string{"│  │  ├─ api-2  up", "api-1  draining", "└─ svc-01"},
			[]string{"hidden"},
		},
		{
			"instances that are up go first", 9, 1, 0,
			[]string{"api-1  draining", "├─ svc-08  ✓ in step  3 of 3", "└─ hidden, see without --watch: 3 instances up"},
			[]string{"api-2  up"},
		},
		{
			"and what is in step", 60, 1, 1,
			[]string{"├─ HAProxy 3.4.7", "├─ svc-00  … behind", "api-1  draining", "├─ svc-59  ! degraded", "api-2  down", "└─ hidden, see without --watch: 58 services in step, 6 instances up"},
			[]string{"svc-30", "api-2  up"},
		},
		{
			"and lines of what is wrong, from each as many", 60, 3, 4,
			[]string{"├─ svc-02  … behind", "│  └─ … 1 server draining", "├─ svc-59  ! degraded", "│  └─ ! 1 server down", "└─ hidden, see without --watch: 53 services in step, 21 instances up, "},
			[]string{"api-1  draining"},
		},
		{
			"and what is under way, before what is wrong", 60, 30, 10,
			[]string{"├─ Consul reachable", "├─ svc-50  ! degraded", "├─ svc-59  ! degraded", "├─ svc-00  … behind", "└─ hidden, see without --watch: 21 services behind, 20 services in step, "},
			[]string{"svc-29"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := screenOf(t, 80, 24, func(tr *tree) { tr.state(daemon.Judged(manyServices(c.n, c.drain, c.down))) })
			text := strings.Join(lines, "\n")
			if len(lines) > 23 { // the cursor stands on the last
				t.Errorf("%d lines are shown", len(lines))
			}
			at := 0
			for _, want := range c.want {
				i := strings.Index(text[at:], want)
				if i < 0 {
					t.Errorf("no %q, or not in that order, in\n%s", want, text)
					continue
				}
				at += i
			}
			for _, not := range c.not {
				if strings.Contains(text, not) {
					t.Errorf("%q is in\n%s", not, text)
				}
			}
		})
	}
}

// On any terminal the lines fit, and all that is hidden is counted.
func TestStatus_WatchOnATerminalOfAnySize_FitsAndHidesNoServiceUnsaid(t *testing.T) {
	for rows := 3; rows < 90; rows++ {
		for _, broken := range []int{0, 1, 7, 40} {
			s := daemon.Judged(manyServices(40, 0, broken))
			lines := screenOf(t, 80, rows, func(tr *tree) { tr.state(s) })
			text := strings.Join(lines, "\n")
			hidden := 0
			for _, kind := range []string{"services in step", "service in step", "services degraded", "service degraded"} {
				before, _, isThere := strings.Cut(lines[len(lines)-1], " "+kind)
				if isThere {
					n := 0
					_, _ = fmt.Sscan(before[strings.LastIndex(before, " ")+1:], &n)
					hidden += n
				}
			}
			if shown := strings.Count(text, "─ svc-"); len(lines) > max(2, rows-1) || rows > 5 && shown+hidden != 40 {
				t.Fatalf("%d rows, %d broken: %d lines, %d services shown and %d hidden:\n%s", rows, broken, len(lines), shown, hidden, text)
			}
		}
	}
}

func TestStatus_WatchOfAFleetOnASmallTerminal_KeepsTheLoadBalancersThatDiffer(t *testing.T) {
	services := []fleet.Service{}
	for i := range 60 {
		services = append(services, fleet.Service{Name: fmt.Sprintf("svc-%02d", i), Backend: fmt.Sprintf("svc-%02d", i), Versions: []fleet.Version{{Version: "1.0", Listed: true, Live: 3, Total: 3, Weight: 3}}})
	}
	summary := func() *fleet.Summary {
		return &fleet.Summary{Verdict: reconcile.Verdict{Status: reconcile.InStep}, FileCurrent: true, Services: slices.Clone(services)}
	}
	f := fleet.Fleet{By: "lb0", Status: reconcile.Degraded, LoadBalancers: []fleet.LoadBalancer{
		{Name: "lb0", Reached: true, Summary: summary()},
		{Name: "lb1", Reached: true, Summary: summary(), Differs: []string{"svc-07: 2 servers, others 3"}},
		{Name: "lb2", Error: "no answer"},
	}}
	f.LoadBalancers[1].Summary.Services[7].Versions = []fleet.Version{{Version: "1.0", Listed: true, Live: 1, Total: 3, Weight: 3}}
	lines := screenOf(t, 120, 24, func(tr *tree) { tr.fleet(f) })
	want := []string{
		"fleet  ! degraded  2 of 3 load balancers reached by lb0",
		"├─ lb0  ✓ in step  HAProxy cannot be read, reloads 0, failed 0, Consul's oldest answer never",
		"├─ lb1  ✓ in step  HAProxy cannot be read, reloads 0, failed 0, Consul's oldest answer never",
		"│  ├─ ≠ svc-07: 2 servers, others 3",
		"│  └─ svc-07",
		"│     └─ 1.0  1 of 3 take traffic, 100% of the weight, sessions 0",
		"├─ lb2  ✗ not reachable: no answer",
		"└─ hidden, see without --watch: 119 services",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

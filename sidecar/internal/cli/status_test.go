package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// sampleState is a load balancer amid a deployment of api, with a tenant's
// instance in mail.
func sampleState() *reconcile.State {
	up := reconcile.InstanceState{ID: "api-2", Node: "n1", Server: "api-2", Addr: "10.0.0.2:80", Version: "1.1", Health: "passing", Phase: reconcile.PhaseUp, Weight: 3}
	draining := reconcile.InstanceState{
		ID: "api-1", Node: "n1", Server: "slot-1", Addr: "10.0.0.1:80", Version: "1.0", Health: "passing", Phase: reconcile.PhaseDraining, Leaving: true,
		Admin: "drain", Weight: 1, Sessions: 2, Reason: "it is leaving; waiting for its sessions to end", Since: noon.Add(-36 * time.Hour),
		ConsulWeight: 1, WeightReason: "drain",
	}
	hostile := up
	hostile.ID, hostile.Server, hostile.Version = "\x1b[2Jx\nroot:", "m", "\x1b]0;t\a"
	hostile.Health, hostile.ConsulCheck = "warning", "disk\x1b[2J: 80 %"
	return &reconcile.State{
		LoadBalancer: "lb0", Started: noon, Ready: true,
		HAProxy: reconcile.HAProxyState{Running: true, Version: "3.4.7", PID: 42, OldWorkers: 1},
		Consul:  reconcile.ConsulState{Reachable: true, LastContact: noon.Add(-5 * time.Second)},
		Reloads: reconcile.ReloadState{Succeeded: 2, Last: noon.Add(-time.Minute), LastReason: "service_added"},
		Services: []reconcile.ServiceState{
			{Name: "api", Backend: "b_api", Known: true, Instances: []reconcile.InstanceState{draining, up}},
			{Name: "mail", Backend: "mail", Known: true, Instances: []reconcile.InstanceState{hostile}, Rejected: []reconcile.RejectedState{{ID: "bad", Node: "n2", Error: "no port\x1b[2J"}}},
		},
	}
}

func TestStatus_Tree_ShowsVersionsInstancesAndReasons(t *testing.T) {
	var out strings.Builder
	tr := tree{out: &out, now: noon}
	tr.state(daemon.Judged(sampleState()))
	want := `lb0  ! degraded
├─ HAProxy 3.4.7, pid 42, old workers 1, reloads 2, failed 0, last 1m0s ago (service_added)
├─ Consul reachable, oldest answer 5s ago
├─ api  … behind  1 of 2 take traffic
│  ├─ … 1 server draining
│  ├─ 1.1  1 of 1 take traffic, 100% of the weight, sessions 0
│  │  └─ api-2  up  10.0.0.2:80  weight 3  sessions 0
│  └─ 1.0  0 of 1 take traffic, 0% of the weight, sessions 2
│     └─ api-1  draining  slot-1  10.0.0.1:80  weight 0 of 1 (drain)  sessions 2  it is leaving; waiting for its sessions to end  since ` + noon.Add(-36*time.Hour).Local().Format(time.DateTime) + ` (36h0m0s)
└─ mail  ! degraded  1 of 1 take traffic
   ├─ ! 1 instance rejected
   └─ "\x1b]0;t\a"  1 of 1 take traffic, 100% of the weight, sessions 0
      └─ "\x1b[2Jx\nroot:"  up  m  10.0.0.2:80  weight 3  sessions 0  Consul's check: disk·[2J: 80 %
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExplain_ConsulCheckAndSince_AreShown(t *testing.T) {
	s := sampleState()
	now := time.Now()
	i := &s.Services[0].Instances[1]
	i.Health, i.ConsulCheck, i.Phase, i.Admin, i.Since = "critical", "http: connection\x1b[2J refused", reconcile.PhaseOut, "maint", now.Add(-12*time.Minute)
	i.Reason = "its check in Consul is critical"
	var out strings.Builder
	if err := explain(&out, s, nil, nil, "api-2"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Consul         critical\n", "Consul check   http: connection·[2J refused\n", "HAProxy        phase out since ", " (12m0s), state maint"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
	judged := daemon.Judged(s)
	out.Reset()
	if err := explainServices(&out, judged, nil, nil); err != nil || !strings.Contains(out.String(), "Consul check  api-2: http: connection·[2J refused\n") {
		t.Errorf("got %v and\n%s", err, out.String())
	}
	i.WeightReason, i.ConsulWeight = "maint", 3
	up := &s.Services[0].Instances[0]
	up.Phase, up.Weight, up.ConsulWeight, up.EffectiveWeight, up.WeightReason = reconcile.PhaseUp, 100, 100, 100, ""
	counted := countersByServer{{"b_api", "slot-1"}: {Weight: 12, SlowStart: 12}, {"b_api", "api-2"}: {Weight: 3, SlowStart: 1}}
	for name, wants := range map[string]bool{"api-1": true, "api-2": false} {
		out.Reset()
		if err := explain(&out, s, nil, counted, name); err != nil || strings.Contains(out.String(), "slow start     weight 12 of 100 now (12%)\n") != wants || strings.Contains(out.String(), "weight 0 of 3 (maint), sessions") == wants {
			t.Errorf("%s: got %v and\n%s", name, err, out.String())
		}
	}
	for at, want := range map[time.Time]string{now.Add(-time.Second): "(1s)", now.Add(-100 * 24 * time.Hour): "(2400h0m0s)"} {
		if got := sinceText(at, now); !strings.HasPrefix(got, "since ") || !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	if got := sinceText(noon, time.Time{}); got != "since 2026-11-29T12:00:00Z" {
		t.Errorf("got %q", got)
	}
}

func TestStatus_TwoBackendsOfAService_EachHasItsOwnReasons(t *testing.T) {
	s := sampleState()
	up := s.Services[0].Instances[1]
	out := up
	out.Phase, out.Reason = reconcile.PhaseOut, "its check in Consul is critical"
	s.Services = []reconcile.ServiceState{
		{Name: "pg", Backend: "pg-primary", Known: true, Instances: []reconcile.InstanceState{out}},
		{Name: "pg", Backend: "pg-replica", Known: true, Instances: []reconcile.InstanceState{up}},
	}
	var b strings.Builder
	tr := tree{out: &b, now: noon}
	tr.state(daemon.Judged(s))
	for _, want := range []string{"├─ pg, backend pg-primary  ! degraded  0 of 1", "└─ pg, backend pg-replica  ✓ in step  1 of 1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "no server takes traffic"); n != 1 {
		t.Errorf("the reason is there %d times:\n%s", n, b.String())
	}
}

func TestStatus_RoleLost_IsNotCalledGone(t *testing.T) {
	s := sampleState()
	s.Services = s.Services[:1]
	s.Services[0].Instances = []reconcile.InstanceState{{Server: "api-1", Addr: "10.0.0.1:80", Health: "gone", RoleLost: true, Phase: reconcile.PhaseOut}}
	var b strings.Builder
	tr := tree{out: &b, now: noon}
	tr.state(daemon.Judged(s))
	if err := explain(&b, s, nil, nil, "api-1"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"   └─ without the backend's tags  0 of 1", "Consul         listed, without a tag of the backend\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestStatus_ManyInstances_ThoseUpAreCounted(t *testing.T) {
	s := sampleState()
	s.Services = s.Services[:1]
	for range maxListed {
		s.Services[0].Instances = append(s.Services[0].Instances, s.Services[0].Instances[1])
	}
	for all, want := range map[bool]int{false: 0, true: maxListed + 1} {
		var out strings.Builder
		tr := tree{out: &out, now: noon, all: all}
		tr.state(daemon.Judged(s))
		if got := strings.Count(out.String(), "api-2  up"); got != want || strings.Contains(out.String(), "11 up (--all lists them)") == all || !strings.Contains(out.String(), "api-1  draining") {
			t.Errorf("all %v: %d instances that are up are listed, want %d:\n%s", all, got, want, out.String())
		}
	}
}

func TestStatus_Tree_ShowsCertificatesTheFirstToExpireFirst(t *testing.T) {
	s := daemon.Judged(&reconcile.State{LoadBalancer: "lb0"})
	for i := range maxCertificates + 2 {
		s.Certificates = append(s.Certificates, daemon.CertificateState{Backend: "shop", Name: fmt.Sprintf("c%d.test", i), Hosts: []string{"a.test", "b.test\x1b[2J"}, NotAfter: noon.AddDate(0, 0, -i)})
	}
	s.CertificateProblems = []daemon.CertificateProblem{{Backend: "shop", File: "/certs/x.pem", Error: "no certificate\x1b[2J"}}
	var out strings.Builder
	(&tree{out: &out, now: noon}).state(s)
	for _, want := range []string{
		"certificates 22, cannot be used 1\n   ├─ ! /certs/x.pem of shop cannot be used: no certificate·[2J\n   ├─ c21.test of shop (a.test, b.test·[2J) expires 2026-11-08T12:00:00Z\n   ├─ c20.test of",
		"c2.test of shop", "and 2 more: see --json\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "c1.test of") {
		t.Errorf("more than %d are shown:\n%s", maxCertificates, out.String())
	}
}

// serveState is the address of a sidecar with a state that the caller changes.
func serveState(t *testing.T, get func() *reconcile.State) string {
	t.Helper()
	log := event.NewLog(noon)
	log.Add(noon, event.Event{Kind: event.ServerDraining, Service: "api", Backend: "b_api", Server: "slot-1", Instance: "api-1", Reason: "leaving"}, event.Event{Kind: event.ServerUp, Service: "api", Backend: "b_api", Server: "api-2", Instance: "api-2"})
	return by(served(t, api.Options{State: func() any { return daemon.Judged(get()) }, Events: log}), "")
}

func TestStatus_EachVerdict_HasAnExitCode(t *testing.T) {
	s := sampleState()
	at := serveState(t, func() *reconcile.State { return s })
	calm := sampleState()
	calm.Services = []reconcile.ServiceState{{Name: "api", Known: true, Instances: calm.Services[0].Instances[1:]}}
	calmAt := serveState(t, func() *reconcile.State { return calm })
	stopped := sampleState()
	stopped.HAProxy = reconcile.HAProxyState{Stopped: true}
	stoppedAt := serveState(t, func() *reconcile.State { return stopped })
	for _, c := range []struct {
		name, address, args string
		code                int
		out, errs           string
	}{
		{"in step", calmAt, "status", ExitOK, "lb0  ✓ in step", ""},
		{"degraded", at, "status", ExitDegraded, "lb0  ! degraded", ""},
		{"one service that is behind", at, "status api", ExitChanges, "lb0  … behind", ""},
		{"its backend", at, "status b_api", ExitChanges, "lb0  … behind", ""},
		{"no colours in a pipe", at, "status --watch --timeout 1ms", ExitDegraded, "lb0  ! degraded\n", ""},
		{"HAProxy does not run", stoppedAt, "status", ExitNotRunning, "HAProxy is not running", ""},
		{"HAProxy does not run, a service", stoppedAt, "status api", ExitNotRunning, "api  ✗ not running", ""},
		{"for programs", calmAt, "status --json", ExitOK, `"status": "in_step"`, ""},
		{"a service that is not routed", at, "status web", ExitFailure, "", "status web: this load balancer does not route the service"},
		{"no sidecar", by("127.0.0.1:1", ""), "status", ExitUnreachable, "", "connection refused"},
		{"why one gets no traffic", at, "explain api-1", ExitOK, "takes traffic  no: it is leaving; waiting for its sessions to end\n", ""},
		{"what happened to it", at, "explain slot-1", ExitOK, "12:00:00       server draining: leaving\n", ""},
		{"one that takes traffic, by address", at, "explain api/10.0.0.2:80", ExitOK, "takes traffic  yes\n", ""},
		{"with its service", at, "explain api/api-1", ExitOK, "instance       api-1 on n1", ""},
		{"with its backend", at, "explain b_api/slot-1", ExitOK, "instance       api-1 on n1", ""},
		{"with its backend, by address without the port", at, "explain b_api/10.0.0.1", ExitOK, "instance       api-1 on n1", ""},
		{"with another service", at, "explain mail/api-1", ExitFailure, "", "explain mail/api-1: no backend of this load balancer has such a server"},
		{"an address of several", at, "explain 10.0.0.2", ExitFailure, "", "explain 10.0.0.2: ambiguous, name one of:\npointsman: b_api/api-2 at 10.0.0.2:80\npointsman: mail/m at 10.0.0.2:80, instance \"\\x1b[2Jx\\nroot:\" on n1\n"},
		{"one that is rejected", at, "explain bad", ExitOK, "takes traffic  no: rejected: no port·[2J\n", ""},
		{"one that is not known", at, "explain api-9", ExitFailure, "", "explain api-9: no backend of this load balancer has such a server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := sidecar(t, c.address, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || (errs == "") != (c.errs == "") || strings.Contains(out, "\x1b") {
				t.Errorf("sidecar %s: got %d %q %q, want %d, %q and an error with %q", c.args, code, out, errs, c.code, c.out, c.errs)
			}
		})
	}
}

func TestStatus_Watch_EndsWhenNothingIsUnderWay(t *testing.T) {
	t.Parallel()
	states := make(chan *reconcile.State, 3)
	for range 2 {
		s := sampleState()
		s.Services = s.Services[:1]
		states <- s
	}
	calm := sampleState()
	calm.Services = []reconcile.ServiceState{{Name: "api", Known: true, Instances: calm.Services[0].Instances[1:]}}
	states <- calm
	at := serveState(t, func() *reconcile.State { return <-states })
	code, out, errs := sidecar(t, at, "status", "--watch")
	if code != ExitOK || strings.Count(out, "… behind\n") != 1 || strings.Count(out, "✓ in step\n") != 1 {
		t.Errorf("got %d %q %q, want it behind once, and then in step", code, out, errs)
	}
}

func TestStatus_LineOnATerminal_IsCutWithoutItsColours(t *testing.T) {
	line := "a" + green + "bcd" + noColour + "\n"
	for width, want := range map[int]string{9: line, 5: line, 3: "a" + green + "b" + noColour + "\n"} {
		if got := cutVisible(line, width); got != want {
			t.Errorf("width %d: got %q, want %q", width, got, want)
		}
	}
}

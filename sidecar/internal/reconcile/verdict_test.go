package reconcile_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestVerdict_EachState_WorstReasonDecides(t *testing.T) {
	up := reconcile.InstanceState{ID: "a", Server: "a", Health: "passing", Phase: reconcile.PhaseUp, Weight: 100}
	with := func(change func(*reconcile.InstanceState)) reconcile.InstanceState {
		i := up
		change(&i)
		return i
	}
	down := with(func(i *reconcile.InstanceState) { i.Phase = reconcile.PhaseDown })
	critical := with(func(i *reconcile.InstanceState) { i.Phase, i.Health = reconcile.PhaseOut, "critical" })
	joining := with(func(i *reconcile.InstanceState) { i.Phase = reconcile.PhaseUnknown })
	draining := with(func(i *reconcile.InstanceState) { i.Phase, i.Leaving = reconcile.PhaseDraining, true })
	gone := with(func(i *reconcile.InstanceState) { i.Phase, i.Health = reconcile.PhaseDrained, "gone" })
	light := with(func(i *reconcile.InstanceState) { i.Weight = 0 })
	own := with(func(i *reconcile.InstanceState) { i.Own, i.Phase = true, reconcile.PhaseDown })
	api := func(text string, s reconcile.Status) reconcile.Finding {
		return reconcile.Finding{Status: s, Service: "api", Backend: "b_api", Text: text}
	}
	kept := with(func(i *reconcile.InstanceState) { i.Phase, i.Drain = reconcile.PhaseDrained, time.Unix(1, 0) })
	moved := with(func(i *reconcile.InstanceState) { i.Phase, i.Drain = reconcile.PhaseOut, time.Unix(1, 0) }) // drain_sticky: move
	all := func(text string, s reconcile.Status) reconcile.Finding {
		return reconcile.Finding{Status: s, Text: text}
	}

	for name, c := range map[string]struct {
		instances []reconcile.InstanceState
		change    func(*reconcile.State)
		status    reconcile.Status
		reasons   []reconcile.Finding
	}{
		"all take traffic":               {[]reconcile.InstanceState{up}, nil, reconcile.InStep, nil},
		"one that left and is drained":   {[]reconcile.InstanceState{up, gone}, nil, reconcile.InStep, nil},
		"a server of the operator's own": {[]reconcile.InstanceState{own}, nil, reconcile.InStep, nil},
		"one that Consul calls critical": {[]reconcile.InstanceState{up, critical}, nil, reconcile.InStep, []reconcile.Finding{api("1 instance out of traffic, as Consul says", reconcile.InStep)}},
		"one that an operator drained":   {[]reconcile.InstanceState{up, kept}, nil, reconcile.InStep, []reconcile.Finding{api("1 server kept in drain by an operator", reconcile.InStep)}},
		"and one whose clients moved":    {[]reconcile.InstanceState{up, moved}, nil, reconcile.InStep, []reconcile.Finding{api("1 server kept in drain by an operator", reconcile.InStep)}},
		"one without a server":           {[]reconcile.InstanceState{up, joining}, nil, reconcile.Behind, []reconcile.Finding{api("1 instance starting", reconcile.Behind)}},
		"one that drains":                {[]reconcile.InstanceState{up, draining}, nil, reconcile.Behind, []reconcile.Finding{api("1 server draining", reconcile.Behind)}},
		"one whose check fails":          {[]reconcile.InstanceState{up, down, joining}, nil, reconcile.Degraded, []reconcile.Finding{api("1 server down, HAProxy's check fails", reconcile.Degraded), api("1 instance starting", reconcile.Behind)}},
		"all down":                       {[]reconcile.InstanceState{down, down}, nil, reconcile.Degraded, []reconcile.Finding{api("no server takes traffic", reconcile.Degraded), api("2 servers down, HAProxy's check fails", reconcile.Degraded)}},
		"weight 0":                       {[]reconcile.InstanceState{light}, nil, reconcile.Degraded, []reconcile.Finding{api("no server takes traffic", reconcile.Degraded)}},
		"no instance":                    {nil, nil, reconcile.Degraded, []reconcile.Finding{api("no instance: HAProxy has no server to send requests to", reconcile.Degraded)}},
		"a hold":                         {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.Services[0].Guard.Held = []string{"a"} }, reconcile.Degraded, []reconcile.Finding{api("mass removal blocked, the guard holds 1 server", reconcile.Degraded)}},
		"a reload that is due":           {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.Reloads.Pending = "service_added" }, reconcile.Behind, []reconcile.Finding{all("reload due: service_added", reconcile.Behind)}},
		"a reload that failed":           {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.Reloads.Error = "no" }, reconcile.Degraded, []reconcile.Finding{all("reload failed, previous configuration still active: no", reconcile.Degraded)}},
		"Consul is away":                 {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.Consul.Error = "EOF" }, reconcile.Degraded, []reconcile.Finding{all("Consul query failed, keeping last known instances: EOF", reconcile.Degraded)}},
		"rollouts cannot be read":        {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.Consul.RolloutsError = "EOF" }, reconcile.InStep, []reconcile.Finding{all("rollouts cannot be read, keeping last known: EOF", reconcile.InStep)}},
		"rollouts were never read": {[]reconcile.InstanceState{up}, func(s *reconcile.State) {
			s.Consul.RolloutsError, s.Consul.RolloutsUnknown = "instances used without rollouts: EOF", true
		}, reconcile.Degraded, []reconcile.Finding{all("rollouts cannot be read: instances used without rollouts: EOF", reconcile.Degraded)}},
		"maintenance":                 {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.HAProxy.Maintenance = true }, reconcile.InStep, []reconcile.Finding{all("maintenance: this load balancer is out of rotation", reconcile.InStep)}},
		"HAProxy is not running":      {[]reconcile.InstanceState{joining}, func(s *reconcile.State) { s.HAProxy = reconcile.HAProxyState{Stopped: true} }, reconcile.NotRunning, []reconcile.Finding{all("HAProxy is not running", reconcile.NotRunning)}},
		"HAProxy that cannot be read": {nil, func(s *reconcile.State) { s.HAProxy = reconcile.HAProxyState{Error: "no"} }, reconcile.NotRunning, []reconcile.Finding{all("HAProxy cannot be read: no", reconcile.NotRunning)}},
		"a service that HAProxy rejects": {[]reconcile.InstanceState{up}, func(s *reconcile.State) {
			s.File.LeftOut = []reconcile.LeftOutState{{Service: "api", Backend: "b_api", AsBefore: true, Error: "no"}}
		}, reconcile.Degraded, []reconcile.Finding{api("service configuration rejected, previous version kept: no", reconcile.Degraded)}},
		"a file that is about to be made": {[]reconcile.InstanceState{up}, func(s *reconcile.State) { s.File.Pending = true }, reconcile.Behind, []reconcile.Finding{all("haproxy.cfg is about to be written", reconcile.Behind)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &reconcile.State{
				Started: time.Unix(1, 0), Ready: true, HAProxy: reconcile.HAProxyState{Running: true},
				Services: []reconcile.ServiceState{{Name: "api", Backend: "b_api", Known: true, Instances: c.instances}},
			}
			if c.change != nil {
				c.change(s)
			}
			if c.reasons == nil {
				c.reasons = []reconcile.Finding{}
			}
			if diff := cmp.Diff(reconcile.Verdict{Status: c.status, Reasons: c.reasons}, s.Verdict()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

package agent_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/agent"
)

func TestVerdict_EachState_WorstReasonDecides(t *testing.T) {
	up := agent.InstanceState{ID: "a", Server: "a", Health: "passing", Phase: agent.PhaseUp, Weight: 100}
	with := func(change func(*agent.InstanceState)) agent.InstanceState {
		i := up
		change(&i)
		return i
	}
	down := with(func(i *agent.InstanceState) { i.Phase = agent.PhaseDown })
	critical := with(func(i *agent.InstanceState) { i.Phase, i.Health = agent.PhaseOut, "critical" })
	joining := with(func(i *agent.InstanceState) { i.Phase = agent.PhaseUnknown })
	draining := with(func(i *agent.InstanceState) { i.Phase, i.Leaving = agent.PhaseDraining, true })
	gone := with(func(i *agent.InstanceState) { i.Phase, i.Health = agent.PhaseDrained, "gone" })
	light := with(func(i *agent.InstanceState) { i.Weight = 0 })
	own := with(func(i *agent.InstanceState) { i.Own, i.Phase = true, agent.PhaseDown })
	api := func(text string, s agent.Status) agent.Finding {
		return agent.Finding{Status: s, Service: "api", Text: text}
	}
	all := func(text string, s agent.Status) agent.Finding { return agent.Finding{Status: s, Text: text} }

	for name, c := range map[string]struct {
		instances []agent.InstanceState
		change    func(*agent.State)
		status    agent.Status
		reasons   []agent.Finding
	}{
		"all take traffic":               {[]agent.InstanceState{up}, nil, agent.InStep, nil},
		"one that left and is drained":   {[]agent.InstanceState{up, gone}, nil, agent.InStep, nil},
		"a server of the operator's own": {[]agent.InstanceState{own}, nil, agent.InStep, nil},
		"one that Consul calls critical": {[]agent.InstanceState{up, critical}, nil, agent.InStep, []agent.Finding{api("1 instance out of traffic, as Consul says", agent.InStep)}},
		"one without a server":           {[]agent.InstanceState{up, joining}, nil, agent.Behind, []agent.Finding{api("1 instance starting", agent.Behind)}},
		"one that drains":                {[]agent.InstanceState{up, draining}, nil, agent.Behind, []agent.Finding{api("1 server draining", agent.Behind)}},
		"one whose check fails":          {[]agent.InstanceState{up, down, joining}, nil, agent.Degraded, []agent.Finding{api("1 server down, HAProxy's check fails", agent.Degraded), api("1 instance starting", agent.Behind)}},
		"all down":                       {[]agent.InstanceState{down, down}, nil, agent.Degraded, []agent.Finding{api("no server takes traffic", agent.Degraded), api("2 servers down, HAProxy's check fails", agent.Degraded)}},
		"weight 0":                       {[]agent.InstanceState{light}, nil, agent.Degraded, []agent.Finding{api("no server takes traffic", agent.Degraded)}},
		"no instance":                    {nil, nil, agent.Degraded, []agent.Finding{api("no instance: HAProxy has no server to send requests to", agent.Degraded)}},
		"a hold":                         {[]agent.InstanceState{up}, func(s *agent.State) { s.Services[0].Guard.Held = []string{"a"} }, agent.Degraded, []agent.Finding{api("mass removal blocked, the guard holds 1 server", agent.Degraded)}},
		"a saved snapshot":               {[]agent.InstanceState{up}, func(s *agent.State) { s.Services[0].Saved = time.Unix(1, 0) }, agent.Degraded, []agent.Finding{api("no answer from Consul yet, instances of a saved snapshot are used", agent.Degraded)}},
		"a reload that is due":           {[]agent.InstanceState{up}, func(s *agent.State) { s.Reloads.Pending = "service_added" }, agent.Behind, []agent.Finding{all("reload due: service_added", agent.Behind)}},
		"a reload that failed":           {[]agent.InstanceState{up}, func(s *agent.State) { s.Reloads.Error = "no" }, agent.Degraded, []agent.Finding{all("reload failed, previous configuration still active: no", agent.Degraded)}},
		"Consul is away":                 {[]agent.InstanceState{up}, func(s *agent.State) { s.Consul.Error = "EOF" }, agent.Degraded, []agent.Finding{all("Consul query failed, keeping last known instances: EOF", agent.Degraded)}},
		"maintenance":                    {[]agent.InstanceState{up}, func(s *agent.State) { s.HAProxy.Maintenance = true }, agent.InStep, []agent.Finding{all("maintenance: this load balancer is out of rotation", agent.InStep)}},
		"HAProxy is not running":         {[]agent.InstanceState{joining}, func(s *agent.State) { s.HAProxy = agent.HAProxyState{Stopped: true} }, agent.NotRunning, []agent.Finding{all("HAProxy is not running", agent.NotRunning)}},
		"HAProxy that cannot be read":    {nil, func(s *agent.State) { s.HAProxy = agent.HAProxyState{Error: "no"} }, agent.NotRunning, []agent.Finding{all("HAProxy cannot be read: no", agent.NotRunning)}},
		"a service that HAProxy rejects": {[]agent.InstanceState{up}, func(s *agent.State) {
			s.File.LeftOut = []agent.LeftOutState{{Service: "api", AsBefore: true, Error: "no"}}
		}, agent.Degraded, []agent.Finding{api("service configuration rejected, previous version kept: no", agent.Degraded)}},
		"a file that is about to be made": {[]agent.InstanceState{up}, func(s *agent.State) { s.File.Pending = true }, agent.Behind, []agent.Finding{all("haproxy.cfg is about to be written", agent.Behind)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &agent.State{
				Started: time.Unix(1, 0), Ready: true, HAProxy: agent.HAProxyState{Running: true},
				Services: []agent.ServiceState{{Name: "api", Known: true, Instances: c.instances}},
			}
			if c.change != nil {
				c.change(s)
			}
			if c.reasons == nil {
				c.reasons = []agent.Finding{}
			}
			if diff := cmp.Diff(agent.Verdict{Status: c.status, Reasons: c.reasons}, s.Verdict()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

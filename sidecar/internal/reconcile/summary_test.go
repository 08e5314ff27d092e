package reconcile

import (
	"testing"
	"time"
)

func TestSummary_EachState_OneLine(t *testing.T) {
	up, down := InstanceState{Phase: PhaseUp, Weight: 100}, InstanceState{Phase: PhaseDown, Weight: 100}
	drained, unknown := InstanceState{Phase: PhaseUp}, InstanceState{Phase: PhaseUnknown, Weight: 100}
	well := func() State {
		return State{
			Ready: true, HAProxy: HAProxyState{Running: true}, Consul: ConsulState{Reachable: true}, File: FileState{Current: true},
			Services: []ServiceState{{Instances: []InstanceState{up, up, down}}, {Instances: []InstanceState{up, drained, unknown}}},
		}
	}
	for name, c := range map[string]struct {
		change func(*State)
		want   string
	}{
		"all is well":     {func(*State) {}, "ready; 2 services, 3 of 5 servers up, file current"},
		"one of each":     {func(s *State) { s.Services = []ServiceState{{Instances: []InstanceState{up}}} }, "ready; 1 service, 1 of 1 server up, file current"},
		"after a reload":  {func(s *State) { s.Reloads = ReloadState{Last: time.Unix(1796000000, 0), LastReason: "service_added"} }, "ready; 2 services, 3 of 5 servers up, file current; last reload 2026-11-30T00:53:20Z, service_added"},
		"a write is due":  {func(s *State) { s.File = FileState{Pending: true} }, "ready; 2 services, 3 of 5 servers up, file pending"},
		"a write failed":  {func(s *State) { s.File = FileState{Pending: true, Error: "no space"} }, "ready; 2 services, 3 of 5 servers up, file not written"},
		"an older file":   {func(s *State) { s.File = FileState{} }, "ready; 2 services, 3 of 5 servers up, file not current"},
		"in maintenance":  {func(s *State) { s.HAProxy.Maintenance = true }, "ready; 2 services, 3 of 5 servers up, file current, maintenance"},
		"HAProxy is away": {func(s *State) { *s = State{HAProxy: HAProxyState{Stopped: true}, Consul: ConsulState{Reachable: true}} }, "not ready; 0 services, 0 of 0 servers up, file not current, HAProxy is not running"},
		"HAProxy hangs":   {func(s *State) { s.HAProxy = HAProxyState{} }, "ready; 2 services, 3 of 5 servers up, file current, HAProxy cannot be read"},
		"Consul is away":  {func(s *State) { s.Consul = ConsulState{Error: "secret"} }, "ready; 2 services, 3 of 5 servers up, file current, Consul query failed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := well()
			c.change(&s)
			if got := s.Summary(); got != c.want {
				t.Errorf("it says %q\nwant    %q", got, c.want)
			}
		})
	}
}

package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestDrainProgress_EachState_TellsWhetherItMayStop(t *testing.T) {
	since := time.Unix(1, 0)
	instance := func(phase reconcile.Phase, sessions int, waiting, reason string) reconcile.InstanceState {
		return reconcile.InstanceState{ID: "api-1", Server: "slot-1", Phase: phase, Sessions: sessions, Waiting: waiting, Reason: reason, Drain: since}
	}
	notYet := instance(reconcile.PhaseUp, 0, "", "")
	notYet.Drain = time.Time{}
	for name, c := range map[string]struct {
		instances      []reconcile.InstanceState
		begun, drained bool
		what           string
	}{
		"not shown yet":                  {[]reconcile.InstanceState{notYet}, false, false, "up"},
		"it waits for others":            {[]reconcile.InstanceState{instance(reconcile.PhaseUp, 2, "replacement", "waiting for a replacement that is up")}, true, false, "up, sessions 2, waiting for a replacement"},
		"sessions are left":              {[]reconcile.InstanceState{instance(reconcile.PhaseDraining, 3, "", "")}, true, false, "draining, sessions 3"},
		"drained":                        {[]reconcile.InstanceState{instance(reconcile.PhaseDrained, 0, "", "")}, true, true, "drained"},
		"in maint with sessions":         {[]reconcile.InstanceState{instance(reconcile.PhaseOut, 1, "", "")}, true, false, "out, sessions 1"},
		"drained in one of two backends": {[]reconcile.InstanceState{instance(reconcile.PhaseDrained, 0, "", ""), instance(reconcile.PhaseDraining, 1, "", "")}, true, false, "draining, sessions 1"},
		"not listed by Consul any more":  {nil, true, false, "is kept in drain"},
	} {
		t.Run(name, func(t *testing.T) {
			s := reconcile.State{Services: []reconcile.ServiceState{{Name: "other", Instances: []reconcile.InstanceState{instance(reconcile.PhaseUp, 9, "", "")}}}}
			for _, i := range c.instances {
				s.Services = append(s.Services, reconcile.ServiceState{Name: "api", Backend: "b", Instances: []reconcile.InstanceState{i}})
			}
			what, begun, drained := drainProgress(s, sidecarapi.OperatorDrain{Service: "api", Server: "api-1"})
			if begun != c.begun || drained != c.drained || !strings.Contains(what, c.what) {
				t.Errorf("got %q, begun %v, drained %v; want %q, %v, %v", what, begun, drained, c.what, c.begun, c.drained)
			}
		})
	}
}

func TestFindServer_TwoBackendsOfAService_EachNameLeadsToTheInstance(t *testing.T) {
	s := reconcile.State{
		Services: []reconcile.ServiceState{
			{Name: "pg", Backend: "pg-primary", Instances: []reconcile.InstanceState{{ID: "a", Server: "slot-1"}}},
			{Name: "pg", Backend: "pg-replica", Instances: []reconcile.InstanceState{{ID: "b", Server: "slot-1"}}},
		},
		Drains: []catalog.OperatorDrain{{Service: "pg", Server: "gone"}},
	}
	for named, want := range map[string]string{
		"a": "a", "pg/b": "b", "pg-primary/slot-1": "a", "pg-replica/slot-1": "b", "pg-replica/b": "b", "gone": "gone", "pg/gone": "gone",
	} {
		if service, server, err := findServer(s, named); service != "pg" || server != want || err != nil {
			t.Errorf("%s: got %q, %q, %v; want %q of pg", named, service, server, err, want)
		}
	}
	for _, named := range []string{"pg-replica/a", "other/a", ""} {
		if _, server, err := findServer(s, named); err == nil {
			t.Errorf("%s: got %q, want an error", named, server)
		}
	}
}

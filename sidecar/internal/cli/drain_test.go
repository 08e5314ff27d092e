package cli

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

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

package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// The weight in effect is what decides on traffic; where it is not Consul's, the operator
// reads why.
func TestState_Weights_InEffectAndWhyNotConsuls(t *testing.T) {
	type weights struct {
		Haproxy, Consul, Effective int
		Reason                     string
	}
	weighing := func(n int) func(*catalog.Instance) { return func(i *catalog.Instance) { i.Weight = n } }
	for name, c := range map[string]struct {
		change func(*catalog.Instance)
		server func(*fakeServer)
		static bool
		want   weights
	}{
		"as registered":   {weighing(100), nil, false, weights{100, 100, 100, ""}},
		"no weight":       {weighing(0), nil, false, weights{0, 0, 0, ""}},
		"rollout's share": {func(i *catalog.Instance) { i.Weight, i.ByShare, i.Registered = 30, true, 100 }, nil, false, weights{30, 100, 30, "the rollout's share"}},
		"share as registered": {
			func(i *catalog.Instance) { i.Weight, i.ByShare, i.Registered = 100, true, 100 }, nil, false, weights{100, 100, 100, ""},
		},
		"agent check": {weighing(100), func(s *fakeServer) { s.Agent, s.ConfigWeight, s.Weight = plan.AgentOn, 100, 50 }, false, weights{50, 100, 50, "its agent check"}},
		"agent's last answer is under way": {
			weighing(100), func(s *fakeServer) { s.Agent, s.ConfigWeight, s.Weight = plan.AgentBusy, 100, 50 }, false, weights{50, 100, 50, "its agent check"},
		},
		"agent check is disabled": {
			weighing(50), func(s *fakeServer) { s.Agent, s.ConfigWeight = plan.AgentOff, 100 }, true,
			weights{100, 50, 100, "the balance algorithm takes weights at a reload only"},
		},
		"draining":         {func(i *catalog.Instance) { i.Weight = 100; leaving(i) }, func(s *fakeServer) { s.Sessions = 1 }, false, weights{100, 100, 0, "drain"}},
		"in maint":         {func(i *catalog.Instance) { i.Weight = 100; critical(i) }, nil, false, weights{100, 100, 0, "maint"}},
		"its check fails":  {weighing(100), func(s *fakeServer) { s.proven = time.Now().Add(time.Hour) }, false, weights{100, 100, 0, "HAProxy's check"}},
		"static algorithm": {weighing(50), nil, true, weights{100, 50, 100, "the balance algorithm takes weights at a reload only"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := serving(t, true, instance("a", 1, weighing(100)), instance("b", 2))
				if c.server != nil {
					b.haproxy.with(func() { c.server(b.haproxy.server("api_nodes", "a")) })
					b.passes(b.settings.Reconcile + time.Second)
				}
				if c.static {
					b.settings.Services[0].Static = true
					b.agent.Reconfigure(b.settings)
					b.haproxy.with(func() { b.haproxy.fail = refusing(plan.SetWeight, plan.ErrRefused) })
				}
				b.catalog.says("api", instance("a", 1, c.change), instance("b", 2))
				b.passes(150 * time.Millisecond) // a reload comes later
				i := b.instanceState("a")
				if diff := cmp.Diff(c.want, weights{i.Weight, i.ConsulWeight, i.EffectiveWeight, i.WeightReason}); diff != "" {
					t.Errorf("phase %s: -want +got:\n%s", i.Phase, diff)
				}
			})
		})
	}
}

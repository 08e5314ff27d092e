package cli

import (
	"maps"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

func TestRolloutSet_Arguments_AreSharesOrNamed(t *testing.T) {
	for args, want := range map[string]map[string]int{
		"1.0=95 1.1=5":     {"1.0": 95, "1.1": 5},
		"1.0=95% 1.1=5%":   {"1.0": 95, "1.1": 5},
		"a=b=100":          {"a=b": 100},
		"1.0 1.1=5":        nil,
		"1.0=x 1.1=5":      nil,
		"1.0=95 1.0=5":     nil,
		"1.0=95 1.1=4":     nil,
		"1.0=95.5 1.1=4.5": nil,
		"=100":             nil,
		"1.0=-5 1.1=105":   nil,
	} {
		got, err := sharesOf(strings.Fields(args))
		if (err == nil) != (want != nil) || want != nil && !maps.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", args, got, err, want)
		}
	}
}

func TestRolloutStart_StableVersion_NamedOrTheOnlyOther(t *testing.T) {
	for _, c := range []struct{ registered, canary, explicit, before, want, words string }{
		{"1.0 1.1", "1.1", "", "", "1.0", ""},
		{"1.0 1.1", "1.1", "", "0.9", "1.0", ""},
		{"0.9 1.0 1.1", "1.1", "", "", "", "registered are 0.9, 1.0"},
		{"0.9 1.0 1.1", "1.1", "", "1.0", "1.0", ""},
		{"0.9 1.0 1.1", "1.1", "0.9", "1.0", "0.9", ""},
		{"1.0 1.1", "1.1", "0.9", "", "", "--stable 0.9: no instance"},
		{"1.0 1.1", "1.1", "1.1", "", "", "--stable 1.1: no instance"},
		{"1.0", "1.1", "", "", "", "no instance of version 1.1"},
		{"1.1", "1.1", "", "", "", "no instance of another version"},
	} {
		got, err := stableBeside(strings.Fields(c.registered), c.canary, c.explicit, c.before)
		if got != c.want || (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}

func TestRolloutJudge_CanaryTakesTrafficInEveryBackend_Passes(t *testing.T) {
	up := reconcile.InstanceState{ID: "a", Version: "1.1", Phase: reconcile.PhaseUp, Weight: 5}
	down := reconcile.InstanceState{ID: "b", Version: "1.1", Phase: reconcile.PhaseDown, Weight: 5}
	stable := reconcile.InstanceState{ID: "c", Version: "1.0", Phase: reconcile.PhaseUp, Weight: 5}
	backend := func(name string, instances ...reconcile.InstanceState) reconcile.ServiceState {
		return reconcile.ServiceState{Name: name, Instances: instances}
	}
	for name, c := range map[string]struct {
		services []reconcile.ServiceState
		want     rollout.Verdict
	}{
		"up":                 {[]reconcile.ServiceState{backend("api", down, up, stable)}, rollout.Pass},
		"down":               {[]reconcile.ServiceState{backend("api", down, stable)}, rollout.Wait},
		"none":               {[]reconcile.ServiceState{backend("api", stable)}, rollout.Wait},
		"up in one backend":  {[]reconcile.ServiceState{backend("api", up), backend("api", stable)}, rollout.Wait},
		"another service's":  {[]reconcile.ServiceState{backend("web", up)}, rollout.Wait},
		"not that service's": {[]reconcile.ServiceState{backend("api", up), backend("web", stable)}, rollout.Pass},
	} {
		if got := takesTraffic(&reconcile.State{Services: c.services}, "api", "1.1"); got.Verdict != c.want || (got.Reason == "") != (c.want == rollout.Pass) {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}

func TestFixedWeights_EachAlgorithm_SaysWhy(t *testing.T) {
	for balance, isFixed := range map[string]bool{"roundrobin": false, "leastconn": false, "random(2)": false, "first": true, "source": true, "hdr(host)": true, "static-rr": true} {
		if got := fixedWeights(config.Service{Balance: balance}); (got != "") != isFixed || isFixed && !strings.Contains(got, balance) {
			t.Errorf("%s: %q", balance, got)
		}
	}
	consistent := config.Service{Balance: "source", BackendExtra: []string{"hash-type consistent"}}
	if got := fixedWeights(consistent); got != "" {
		t.Errorf("a consistent hash: %q", got)
	}
}

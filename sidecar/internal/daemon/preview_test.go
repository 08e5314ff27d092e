package daemon

import (
	"context"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// previewState is a service whose new version takes traffic in its preview backend only.
func previewState() *reconcile.State {
	up := func(id, version string, weight int) reconcile.InstanceState {
		return reconcile.InstanceState{ID: id, Server: id, Version: version, Phase: reconcile.PhaseUp, Health: "passing", Weight: weight}
	}
	return &reconcile.State{
		Ready: true, Converged: true, HAProxy: reconcile.HAProxyState{Running: true},
		Services: []reconcile.ServiceState{
			{Name: "api", Backend: "api", Known: true, Index: 7, Instances: []reconcile.InstanceState{up("a", "1.0", 255), up("b", "1.1", 0)}},
			{Name: "api", Backend: "api.preview", Known: true, Index: 7, Rollout: &reconcile.RolloutState{State: rollout.Preview}, Instances: []reconcile.InstanceState{up("b", "1.1", 1)}},
		},
	}
}

// What is in preview counts for nothing that a deployment or a comparison of versions
// goes by.
func TestPreview_TakesNoPartOfTheTraffic(t *testing.T) {
	s := previewState()
	for version, want := range map[string]int{"": 1, "1.0": 1, "1.1": 0} {
		if n, isRouted := (Facts{State: s}).Live("api", version); n != want || !isRouted {
			t.Errorf("version %q: %d live, routed %v, want %d", version, n, isRouted, want)
		}
	}
	leaving := previewState()
	leaving.Services[0].Instances[1].Weight, leaving.Services[1].Instances[0].Phase = 255, reconcile.PhaseDraining
	if n, _ := (Facts{State: leaving}).Live("api", "1.1"); n != 1 {
		t.Errorf("%d live while it leaves the preview, want 1", n)
	}
	if got := takesTraffic(s, "api", "1.1"); got.Verdict != rollout.Wait {
		t.Errorf("a version in preview takes traffic: %+v", got)
	}
	if got := takesTraffic(s, "api", "1.0"); got.Verdict != rollout.Pass {
		t.Errorf("the stable version: %+v", got)
	}
	asked := 0
	counters := countersOf(func() *reconcile.State { return s }, func(context.Context, string) (haproxy.BackendCounters, error) {
		asked++
		return haproxy.BackendCounters{Servers: map[string]haproxy.Counters{"a": {Requests: 1}, "b": {Requests: 2}}}, nil
	})
	if all, isKnown, err := counters(t.Context(), "api"); len(all.Instances) != 2 || !isKnown || err != nil || asked != 1 {
		t.Errorf("the counters are %+v, %v, %v", all, isKnown, err)
	}
}

// That no version is in preview is no degradation; what else there is to say of a preview
// backend stays.
func TestPreview_WithoutServers_IsNotDegraded(t *testing.T) {
	s := previewState()
	preview := &s.Services[1]
	if v := verdictOf(s); v.Status != reconcile.InStep {
		t.Errorf("with a server: %+v", v)
	}
	preview.Instances[0].Phase = reconcile.PhaseStarting
	if v := verdictOf(s); v.Status != reconcile.Behind {
		t.Errorf("while it starts: %+v", v)
	}
	preview.Instances = nil
	if v := verdictOf(s); v.Status != reconcile.InStep || len(v.Reasons) != len(s.Verdict().Reasons)-1 || s.Verdict().Status != reconcile.Degraded {
		t.Errorf("without a server: %+v", v)
	}
	s.File.LeftOut = []reconcile.LeftOutState{{Service: "api", Backend: "api.preview", Error: "bad"}}
	if v := verdictOf(s); v.Status != reconcile.Degraded {
		t.Errorf("left out of haproxy.cfg: %+v", v)
	}
	s.File.LeftOut = nil
	s.Services = append(s.Services, reconcile.ServiceState{Name: "web", Backend: "web", Known: true})
	if v := verdictOf(s); v.Status != reconcile.Degraded {
		t.Errorf("another service without a server: %+v", v)
	}
	s.Services = s.Services[:2]
	preview = &s.Services[1]
	preview.Rollout = nil
	if v := verdictOf(s); v.Status != reconcile.Degraded {
		t.Errorf("another backend without a server: %+v", v)
	}
}

// severalDatacenters knows the answers of one backend by their merged index.
type severalDatacenters struct{}

func (severalDatacenters) Index(backend, _ string, _ uint64) (uint64, bool) {
	if backend != "api" {
		return 0, true
	}
	return 70, true
}

func (severalDatacenters) OfOthers(string) map[[2]string]bool { return nil }

func (severalDatacenters) IsNamed(string) bool    { return true }
func (severalDatacenters) Others(string) []string { return []string{"dc2"} }

// The index of a preview is that of its service's answer: a drain goes by the oldest.
func TestPreview_SeveralDatacenters_IndexOfTheService(t *testing.T) {
	s := previewState()
	if got := (Facts{State: s, source: severalDatacenters{}}).Index("api"); got != 70 {
		t.Errorf("the index is %d, want 70", got)
	}
	if got := withFirstIndexes(s, severalDatacenters{}).Services[1].Index; got != 70 {
		t.Errorf("shown is the index %d, want 70", got)
	}
}

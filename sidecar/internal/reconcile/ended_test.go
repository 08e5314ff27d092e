package reconcile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// What is remembered of sessions that were ended a part at a time lasts while the plan ends
// or awaits more of them. A plan keeps what it was made from.
func TestObservedCache_PartOfSessionsEnded_RememberedWhileMoreAreAwaited(t *testing.T) {
	k := observedCache{observed: plan.Observed{Backends: map[string]plan.Backend{"api": {Servers: []plan.Server{
		{Name: "api-1", SinceChange: 7 * time.Second}, {Name: "api-2", SinceChange: 9 * time.Second},
	}}}}}
	k.noteStep(plan.Step{Kind: plan.Shutdown, Backend: "api", Server: "api-1", Sessions: 3})
	before := k.ended
	k.noteStep(plan.Step{Kind: plan.Shutdown, Backend: "api", Server: "api-2", Sessions: 1})
	k.noteStep(plan.Step{Kind: plan.Shutdown, Backend: "web", Server: "web-1", Sessions: 1}) // is not read
	k.noteStep(plan.Step{Kind: plan.Shutdown, Backend: "api", Server: "api-3"})              // ends all
	type ended = map[string]map[string]time.Duration
	for _, c := range []struct {
		what      string
		got, want ended
	}{
		{"before the second step", before, ended{"api": {"api-1": 7 * time.Second}}},
		{"after both", k.ended, ended{"api": {"api-1": 7 * time.Second, "api-2": 9 * time.Second}}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
	k.forgetEnded(plan.Plan{Waiting: []plan.Waiting{{Backend: "api", Server: "api-2", For: plan.ForSessions}}})
	if diff := cmp.Diff(ended{"api": {"api-2": 9 * time.Second}}, k.ended); diff != "" {
		t.Errorf("while api-2 is awaited (-want +got):\n%s", diff)
	}
	k.forgetEnded(plan.Plan{})
	if len(k.ended) > 0 {
		t.Errorf("at the end: got %v, want nothing", k.ended)
	}
}

// Who reads events learns how many sessions ended, also where all of a server's did.
func TestCounted_AllSessionsEnd_AsManyAsTheServerHas(t *testing.T) {
	a := &Agent{known: newObservedCache()}
	a.known.observed.Backends = map[string]plan.Backend{"api": {Servers: []plan.Server{{Name: "api-1", Sessions: 4}, {Name: "api-2", Sessions: 7}}}}
	for step, want := range map[plan.Step]int{
		{Kind: plan.Shutdown, Backend: "api", Server: "api-2"}:              7,
		{Kind: plan.Shutdown, Backend: "api", Server: "api-2", Sessions: 3}: 3,
		{Kind: plan.Shutdown, Backend: "api", Server: "gone"}:               0,
		{Kind: plan.SetMaint, Backend: "api", Server: "api-2"}:              0,
	} {
		if got := a.counted(step).Sessions; got != want {
			t.Errorf("%s %s: got %d, want %d", step.Kind, step.Server, got, want)
		}
	}
}

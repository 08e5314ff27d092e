package api

import (
	"errors"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// polled is a server that answers by the world.
func polled(t *testing.T, w *world, change ...func(*Options)) sidecarapi.Target {
	o := options()
	o.LoadBalancer, o.Watch = "lb0", w.watch
	o.State = func() any {
		return map[string]any{"load_balancer": "lb0", "ready": true, "services": []any{
			map[string]any{"name": "web", "index": 3},
			map[string]any{"name": "api", "index": 7, "instances": []any{map[string]any{"id": "a/b", "node": "n", "phase": "up", "version": "1.1", "weight": 1}}},
		}}
	}
	for _, c := range change {
		c(&o)
	}
	return sidecarapi.Target{LoadBalancer: "lb0", URL: start(t, o)}
}

func TestTheClientGetsWhatTheServerSays(t *testing.T) {
	w := newWorld()
	w.live, w.index, w.drain = 2, 7, Drain{Phase: "draining", Sessions: 3}
	to, c := polled(t, w), sidecarapi.New(sidecarapi.Options{})
	live, err := c.Live(t.Context(), to, "api", "1.1", 3, 0)
	if live.Live || live.Count != 2 || live.Want != 3 || err != nil {
		t.Errorf("Live: got %+v, %v, want 2 of 3, not live", live, err)
	}
	time.AfterFunc(50*time.Millisecond, func() { w.becomes(func() { w.live = 3; w.drain = Drain{Drained: true, Phase: "out"} }) })
	live, err = c.Live(t.Context(), to, "api", "1.1", 3, 10*time.Second)
	if !live.Live || live.Count != 3 || live.Want != 3 || err != nil {
		t.Errorf("Live that is waited for: got %+v, %v, want 3 of 3, live", live, err)
	}
	for _, instance := range []string{"a/b", "..", "a b?c#d%2F", "ü"} {
		drain, err := c.Drain(t.Context(), to, "api", instance, 7, 10*time.Second)
		if !drain.Drained || drain.Phase != "out" || drain.Instance != instance || err != nil {
			t.Errorf("Drain of %q: got %+v, %v, want it drained and out", instance, drain, err)
		}
	}
	view, err := c.View(t.Context(), to, "api")
	if err != nil || view.Index != 7 || len(view.Instances) != 1 || view.Instances[0].ID != "a/b" || view.Instances[0].Phase != "up" {
		t.Errorf("View: got %+v, %v", view, err)
	}
	if _, err := c.View(t.Context(), to, "nothing"); !errors.Is(err, sidecarapi.ErrNotRouted) {
		t.Errorf("View of a service that is not routed: got %v", err)
	}
	w.becomes(func() { w.unrouted = true })
	if _, err := c.Live(t.Context(), to, "api", "1.1", 3, 0); !errors.Is(err, sidecarapi.ErrNotRouted) {
		t.Errorf("Live of a service that is not routed: got %v", err)
	}
}

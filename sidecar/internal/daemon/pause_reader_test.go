package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestPauseReader_BackendsOfTheService_AllMustHaveIt(t *testing.T) {
	until := noon.Add(time.Minute)
	applied := &reconcile.PauseState{Until: until, Applied: noon}
	state := &reconcile.State{Services: []reconcile.ServiceState{
		{Name: "api", Backend: "api", Pause: applied},
		{Name: "api", Backend: "api.preview", Pause: applied},
		{Name: "half", Backend: "half", Pause: applied},
		{Name: "half", Backend: "half.preview", Pause: &reconcile.PauseState{Until: until, Problem: "no map"}},
		{Name: "web", Backend: "web"},
	}}
	var asked []string
	reader := &pauseReader{
		name: "lb0", seesOldWorkers: true, state: func() *reconcile.State { return state }, canPause: func(b string) bool { return b != "web" },
		held: func(_ context.Context, backends []string) (haproxy.Held, error) {
			asked = backends
			return haproxy.Held{AtServers: 1, Waiting: 2, Attempts: 3}, nil
		},
		turn: make(chan struct{}, 1), known: map[string]pauseThen{},
	}
	for service, want := range map[string]sidecarapi.Pause{
		"api":  {LoadBalancer: "lb0", Service: "api", Until: until, Applied: true, AtServers: 1, Waiting: 2, Attempts: 3},
		"half": {LoadBalancer: "lb0", Service: "half", Until: until, Problem: "no map", AtServers: 1, Waiting: 2, Attempts: 3},
		"web":  {LoadBalancer: "lb0", Service: "web", Problem: reconcile.CannotPause, AtServers: 1, Waiting: 2, Attempts: 3},
	} {
		got, isKnown, err := reader.read(t.Context(), service)
		if err != nil || !isKnown || got != want {
			t.Errorf("got %+v, %v, %v, want %+v", got, isKnown, err, want)
		}
		if service == "api" && !slices.Equal(asked, []string{"api", "api.preview"}) {
			t.Errorf("the requests of %q were counted", asked)
		}
	}
	if _, isKnown, err := reader.read(t.Context(), "mail"); err != nil || isKnown {
		t.Errorf("a service that is not routed: %v, %v", isKnown, err)
	}
}

// HAProxy's runtime socket takes few connections, and the loop needs one of them.
func TestPauseReader_ManyAsk_ShareAnAnswerOf100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts, fails atomic.Int32
		var takes atomic.Int64
		takes.Store(int64(pauseAge / 4))
		state := &reconcile.State{Services: []reconcile.ServiceState{{Name: "api", Backend: "api"}, {Name: "web", Backend: "web"}}}
		reader := &pauseReader{
			state: func() *reconcile.State { return state }, canPause: func(string) bool { return true },
			held: func(context.Context, []string) (haproxy.Held, error) {
				n := counts.Add(1)
				time.Sleep(time.Duration(takes.Load()))
				if fails.Load() > 0 {
					return haproxy.Held{}, errors.New("no")
				}
				return haproxy.Held{AtServers: int(n)}, nil
			},
			turn: make(chan struct{}, 1), known: map[string]pauseThen{},
		}
		ask := func(want int32, services ...string) {
			t.Helper()
			var all sync.WaitGroup
			for range 20 {
				for _, service := range services {
					all.Go(func() {
						if p, isKnown, err := reader.read(t.Context(), service); err != nil || !isKnown || p.Service != service || p.AtServers == 0 {
							t.Errorf("got %+v, %v, %v", p, isKnown, err)
						}
					})
				}
			}
			all.Wait()
			if n := counts.Load(); n != want {
				t.Errorf("HAProxy was asked %d times, want %d", n, want)
			}
		}
		ask(2, "api", "web")
		ask(2, "api", "web")
		time.Sleep(pauseAge)
		ask(3, "api")
		time.Sleep(pauseAge)
		fails.Store(1)
		if _, isKnown, err := reader.read(t.Context(), "api"); err == nil || !isKnown {
			t.Errorf("known %v, error %v, want HAProxy's", isKnown, err)
		}
		fails.Store(0)
		ask(5, "api") // a failure is not kept
		time.Sleep(pauseAge)
		takes.Store(int64(2 * pauseAge))
		ask(6, "api") // those who asked before it was begun share a slow one, too
	})
}

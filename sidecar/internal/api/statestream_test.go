package api

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// changing is a state that a test changes.
type changing struct {
	mu       sync.Mutex
	services []reconcile.ServiceState
	newer    chan struct{}
}

func (c *changing) set(services ...reconcile.ServiceState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services = services
	if c.newer != nil {
		close(c.newer)
	}
	c.newer = make(chan struct{})
}

func (c *changing) options() Options {
	o := options()
	o.Parts = func() (any, []reconcile.ServiceState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return map[string]string{"load_balancer": "lb0"}, c.services
	}
	o.Watch = func() (Facts, <-chan struct{}) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return nil, c.newer
	}
	return o
}

func serviceOf(backend string, ids ...string) reconcile.ServiceState {
	s := reconcile.ServiceState{Name: backend, Backend: backend}
	for _, id := range ids {
		s.Instances = append(s.Instances, reconcile.InstanceState{ID: id})
	}
	return s
}

// nextDelta returns the ID of an event, and in short what has changed.
func (f *following) nextDelta() (id, changed string) {
	f.Helper()
	id = strings.TrimPrefix(f.next(), "id: ")
	var d delta
	if err := json.Unmarshal([]byte(strings.TrimPrefix(f.next(), "data: ")), &d); err != nil {
		f.Fatal(err)
	}
	var names []string
	for _, s := range d.Services {
		names = append(names, s.Backend)
	}
	return id, strings.Join(names, ",") + " of " + strings.Join(d.Backends, ",")
}

func TestStateStream_Changes_OnlyWhatHasChangedAndResumed(t *testing.T) {
	var c changing
	a, b := serviceOf("a", "a-1"), serviceOf("b", "b-1")
	c.set(a, b)
	url := start(t, c.options()) + "/api/v1/state/stream"
	expect := func(f *following, want string) string {
		t.Helper()
		id, got := f.nextDelta()
		if got != want {
			t.Errorf("changed: %q, want %q", got, want)
		}
		return id
	}
	f := follow(t, url, "")
	if got := f.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	first := expect(f, "a,b of a,b")
	c.set(a, serviceOf("b", "b-1", "b-2"))
	expect(f, "b of ")
	b = c.services[1]
	b.Guard.Held = []string{"b-2"} // the instances are the same slice
	c.set(a, b)
	expect(f, "b of ")
	c.set(a, b)
	last := expect(f, " of ") // the same
	c.set(b)
	expect(f, " of b")
	_ = f.resp.Body.Close()

	expect(follow(t, url, first), "b of b")
	expect(follow(t, url, last), " of b")
	expect(follow(t, url, "other.3"), "b of b")
	expect(follow(t, url, strings.TrimSuffix(first, "1")+"99999"), "b of b")
	expect(follow(t, url, "<>"), "b of b")
}

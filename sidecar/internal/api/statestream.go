package api

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// deltaPace is how often a client that follows the state gets a delta at most.
const deltaPace = 200 * time.Millisecond

// Parts gives the state in parts: as JSON has it except the services, and these. A
// slice of instances that has not changed is the same one.
type Parts func() (head any, services []reconcile.ServiceState)

// delta is what has changed since a generation of the state.
type delta struct {
	State    any                      `json:"state"`              // without its services
	Services []reconcile.ServiceState `json:"services"`           // those that have changed
	Backends []string                 `json:"backends,omitempty"` // of all services, in order, where that has changed
}

// changes numbers the states, and knows at which number each service last changed.
type changes struct {
	parts Parts
	epoch string // another for each process, so that its numbers are known

	mu         sync.Mutex
	generation uint64
	services   []reconcile.ServiceState
	changed    map[string]uint64 // by backend
	listed     uint64            // when the list of backends last changed
}

func newChanges(parts Parts) *changes {
	return &changes{parts: parts, epoch: rand.Text()[:8], changed: map[string]uint64{}}
}

// since returns what has changed since a generation, and the number of now. 0 gives all.
func (c *changes) since(generation uint64) (delta, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	head, services := c.parts()
	c.note(services)
	d := delta{State: head, Services: []reconcile.ServiceState{}}
	for i := range services {
		if c.changed[services[i].Backend] > generation {
			d.Services = append(d.Services, services[i])
		}
		if c.listed > generation {
			d.Backends = append(d.Backends, services[i].Backend)
		}
	}
	return d, c.generation
}

// note compares the services with those of before.
func (c *changes) note(services []reconcile.ServiceState) {
	c.generation++
	isListed := len(services) == len(c.services) && c.generation > 1
	was := make(map[string]*reconcile.ServiceState, len(c.services))
	for i := range c.services {
		was[c.services[i].Backend] = &c.services[i]
	}
	for i := range services {
		now := &services[i]
		isListed = isListed && c.services[i].Backend == now.Backend
		if before := was[now.Backend]; before == nil || !isSame(before, now) {
			c.changed[now.Backend] = c.generation
		}
	}
	if !isListed {
		c.listed = c.generation
	}
	c.services = services
}

// isSame reports whether a service has not changed.
func isSame(a, b *reconcile.ServiceState) bool {
	if len(a.Instances) != len(b.Instances) || len(a.Instances) > 0 && &a.Instances[0] != &b.Instances[0] {
		return false
	}
	x, y := *a, *b
	x.Instances, y.Instances = nil, nil
	return reflect.DeepEqual(x, y)
}

// resume reads a Last-Event-ID: the generation, or 0 if it is of another process.
func (c *changes) resume(id string) uint64 {
	epoch, number, _ := strings.Cut(id, ".")
	generation, err := strconv.ParseUint(number, 10, 64)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || epoch != c.epoch || generation > c.generation {
		return 0
	}
	return generation
}

// stateStream answers /api/v1/state/stream with server-sent events: first the whole
// state, or what has changed since Last-Event-ID, then each change.
func stateStream(name string, parts Parts, watch Watch) http.Handler {
	c, followers := newChanges(parts), make(chan struct{}, maxFollowers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		streamTo(w, r, name, followers, func(send func(string) bool, end <-chan time.Time) {
			c.stream(r, watch, send, end)
		})
	})
}

func (c *changes) stream(r *http.Request, watch Watch, send func(string) bool, end <-chan time.Time) {
	generation := c.resume(r.Header.Get("Last-Event-ID"))
	idle := time.NewTicker(followIdle)
	defer idle.Stop()
	for {
		_, newer := watch() // before it is read, so that no change is missed
		begun := time.Now()
		d, now := c.since(generation)
		body, err := json.Marshal(d)
		if err != nil || !send(fmt.Sprintf("id: %s.%d\ndata: %s\n\n", c.epoch, now, body)) {
			return
		}
		generation = now
		// A large state is sent less often.
		if !rest(r, max(deltaPace, 20*time.Since(begun))) {
			return
		}
		for isNewer := false; !isNewer; {
			select {
			case <-newer:
				isNewer = true
			case <-idle.C:
				if !send(":\n\n") { // so that a client that has gone is noticed
					return
				}
			case <-end:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
}

// rest waits, and reports false if the client has gone.
func rest(r *http.Request, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

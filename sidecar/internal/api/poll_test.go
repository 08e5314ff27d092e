package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// world is facts that change.
type world struct {
	mu       sync.Mutex
	drain    Drain
	live     int
	unrouted bool
	index    uint64
	newer    chan struct{}
	waiting  int
	drained  []string // of whom an answer has said so
}

func newWorld() *world { return &world{newer: make(chan struct{})} }

func (w *world) becomes(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.newer)
	w.newer = make(chan struct{})
}

func (w *world) watch() (Facts, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return moment{w.drain, w.live, !w.unrouted, w.index, ""}, w.newer
}

func (w *world) attend(change int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting += change
}

func (w *world) told(service, instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drained = append(w.drained, service+"/"+instance)
}

type moment struct {
	drain  Drain
	live   int
	routed bool
	index  uint64

	datacenter string
}

// Drain returns an instance of another datacenter an ID that says so.
func (m moment) Drain(_, id string) (Drain, bool) {
	m.drain.Instance = id + m.datacenter
	return m.drain, m.routed
}

func (m moment) In(datacenter string) Facts   { m.datacenter = "." + datacenter; return m }
func (m moment) Live(_, _ string) (int, bool) { return m.live, m.routed }
func (m moment) Index(string) uint64          { return m.index }

// ask sends one request past any network, so that it can be in a bubble.
func ask(t *testing.T, w *world, p *polls, path string) (code int, answer map[string]any) {
	t.Helper()
	paths := map[string]http.Handler{"/api/v1/drain/*": http.HandlerFunc(p.drain), "/api/v1/live/*": http.HandlerFunc(p.live)}
	rec := deadlineRecorder{httptest.NewRecorder()}
	dispatch(paths).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %v: %s", path, err, rec.Body)
	}
	if w.waiting != 0 {
		t.Errorf("%d still count as waiting", w.waiting)
	}
	return rec.Code, answer
}

// says reports whether an answer has these values.
func says(answer, values map[string]any) bool {
	for key, value := range values {
		if answer[key] != value {
			return false
		}
	}
	return true
}

// deadlineRecorder takes the deadline that a long poll sets.
type deadlineRecorder struct{ *httptest.ResponseRecorder }

func (deadlineRecorder) SetWriteDeadline(time.Time) error { return nil }

func TestADrainIsAnsweredAtTheMomentThatItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.drain = Drain{Phase: "draining", Sessions: 3}
		time.AfterFunc(2*time.Second, func() { w.becomes(func() { w.drain.Sessions = 1 }) })
		time.AfterFunc(5*time.Second, func() { w.becomes(func() { w.drain = Drain{Drained: true, Phase: "drained"} }) })
		code, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/drain/api/api-1?wait=30s")
		if code != http.StatusOK || !says(got, map[string]any{"drained": true, "waited_ms": 5000.0, "load_balancer": "lb0", "instance": "api-1"}) {
			t.Errorf("got %d %v, want drained after 5 s", code, got)
		}
		if want := []string{"api/api-1"}; !slices.Equal(w.drained, want) {
			t.Errorf("told that %v are drained, want %v", w.drained, want)
		}
		// The answer has the ID that was asked for, whatever the state calls it.
		w.drained = nil
		if _, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/drain/api/api-1?dc=dc2"); !says(got, map[string]any{"drained": true, "instance": "api-1"}) || !slices.Equal(w.drained, []string{"api/api-1.dc2"}) {
			t.Errorf("got %v, told %v, want the one of dc2", got, w.drained)
		}
		if code, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/drain/api/api-1?dc="+strings.Repeat("x", 257)); code != http.StatusBadRequest {
			t.Errorf("a datacenter of 257 bytes: got %d %v, want 400", code, got)
		}
		// Anyone can ask for instances that there never were.
		w.drain, w.drained = Drain{Drained: true}, nil
		if _, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/drain/api/x"); !says(got, map[string]any{"drained": true}) || w.drained != nil {
			t.Errorf("got %v, told %v, want drained and no call of Drained", got, w.drained)
		}
	})
}

func TestADrainIsNotClaimedByFactsThatAreOlderThanTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.drain, w.index = Drain{Drained: true}, 41 // it has not heard of the instance yet
		time.AfterFunc(2*time.Second, func() {
			w.becomes(func() { w.drain, w.index = Drain{Phase: "draining", Sessions: 1}, 42 })
		})
		time.AfterFunc(3*time.Second, func() { w.becomes(func() { w.drain = Drain{Drained: true, Phase: "drained"} }) })
		code, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/drain/api/api-1?wait=30s&index=42")
		if code != http.StatusOK || !says(got, map[string]any{"drained": true, "waited_ms": 3000.0, "index": 42.0}) {
			t.Errorf("got %d %v, want drained after 3 s, as of index 42", code, got)
		}
	})
}

func TestADrainThatIsNotOverAtTheDeadlineSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.drain = Drain{Phase: "draining", Sessions: 3}
		code, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/drain/api/api-1?wait=7s")
		if code != http.StatusOK || !says(got, map[string]any{"drained": false, "sessions": 3.0, "waited_ms": 7000.0}) {
			t.Errorf("got %d %v, want 3 sessions left after 7 s", code, got)
		}
	})
}

func TestLiveIsAnsweredOnceEnoughTakeTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for n := range 4 {
			time.AfterFunc(time.Duration(n)*time.Second, func() { w.becomes(func() { w.live = n }) })
		}
		code, got := ask(t, w, newPolls("lb0", w.watch, w.attend, w.told), "/api/v1/live/api?version=1.1&count=2")
		if code != http.StatusOK || !says(got, map[string]any{"live": true, "count": 2.0, "waited_ms": 2000.0}) {
			t.Errorf("got %d %v, want 2 live after 2 s", code, got)
		}
	})
}

func TestAPollThatAsksForNothingSensibleIsRefused(t *testing.T) {
	w := newWorld()
	p := newPolls("lb0", w.watch, w.attend, w.told)
	for path, want := range map[string]int{
		"/api/v1/drain/api":                            http.StatusBadRequest,
		"/api/v1/drain/api/":                           http.StatusBadRequest,
		"/api/v1/drain/api/api-1?wait=soon":            http.StatusBadRequest,
		"/api/v1/drain/api/api-1?wait=-1s":             http.StatusBadRequest,
		"/api/v1/drain/api/api-1?wait=24h":             http.StatusBadRequest,
		"/api/v1/live/api?count=many":                  http.StatusBadRequest,
		"/api/v1/live/api?count=-1":                    http.StatusBadRequest,
		"/api/v1/live/api?index=1.5":                   http.StatusBadRequest,
		"/api/v1/drain/api/api-1?index=new":            http.StatusBadRequest,
		"/api/v1/live/":                                http.StatusBadRequest,
		"/api/v1/drain/api/an/id/with/slashes?wait=0s": http.StatusOK,
		"/api/v1/live/api?count=0&wait=0s":             http.StatusOK,
	} {
		if code, got := ask(t, w, p, path); code != want {
			t.Errorf("%s: got %d %v, want %d", path, code, got, want)
		}
	}
	w.unrouted = true
	if code, got := ask(t, w, p, "/api/v1/drain/web/web-1"); code != http.StatusNotFound || got["load_balancer"] != "lb0" || got["error"] == "" {
		t.Errorf("a service that is not routed: got %d %v, want 404 of lb0", code, got)
	}
}

func TestThousandsThatWaitAreAllAnsweredAtTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiters = 5000
		w := newWorld()
		w.drain = Drain{Phase: "draining", Sessions: 3}
		p := newPolls("lb0", w.watch, w.attend, w.told)
		var group sync.WaitGroup
		var late atomic.Int32
		began := time.Now()
		for range waiters {
			group.Go(func() {
				rec := httptest.NewRecorder()
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?wait=1m", http.NoBody)
				req.SetPathValue("rest", "api/api-1")
				p.drain(deadlineRecorder{rec}, req)
				if !strings.Contains(rec.Body.String(), `"drained":true`) || time.Since(began) != 3*time.Second {
					late.Add(1)
				}
			})
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		w.becomes(func() { w.drain = Drain{Drained: true, Phase: "out"} })
		group.Wait()
		if n := late.Load(); n > 0 {
			t.Errorf("%d of %d were not told at the moment that it was so", n, waiters)
		}
	})
}

func TestAPollEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := newPolls("lb0", w.watch, w.attend, w.told)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
		req.SetPathValue("rest", "api/api-1")
		p.drain(deadlineRecorder{httptest.NewRecorder()}, req)
		if got := time.Since(begun); got != time.Second {
			t.Errorf("it ended after %s, want 1s", got)
		}
	})
}

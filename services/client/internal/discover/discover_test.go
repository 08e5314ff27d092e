package discover_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pointsman/pointsman/services/client/internal/discover"
)

// watching is a Watch that runs, and what it has told.
type watching struct {
	watch *discover.Watch
	logs  *observer.ObservedLogs

	mu   sync.Mutex
	told [][]string
}

func newWatching(t *testing.T, consul *api.Config) *watching {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	watch, err := discover.New(discover.Config{Consul: consul, Service: "lb", Path: "/", Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	return &watching{watch: watch, logs: logs}
}

// start waits for the first targets and then follows until the test ends.
func (w *watching) start(t *testing.T) {
	t.Helper()
	first, err := w.watch.First(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.tell(first)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.watch.Run(ctx, w.tell) }()
	t.Cleanup(func() { cancel(); <-done })
}

func (w *watching) tell(targets []*url.URL) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, texts(targets))
}

func texts(targets []*url.URL) []string {
	out := []string{}
	for _, u := range targets {
		out = append(out, u.String())
	}
	return out
}

func (w *watching) want(t *testing.T, want ...[]string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(w.told, want); diff != "" {
		t.Errorf("targets (-got +want):\n%s", diff)
	}
}

// lines returns the log's lines, without Consul's words.
func (w *watching) lines() []string {
	var out []string
	for _, e := range w.logs.All() {
		line := e.Message
		if target, ok := e.ContextMap()["target"].(string); ok {
			line += " " + target
		}
		out = append(out, line)
	}
	return out
}

const lb0, lb1 = "http://10.0.0.1:80/", "http://10.0.0.2:81/"

func TestPassingInstancesAreTheTargetsAsTheyComeAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("lb0", "10.0.0.1", 80))
		w := newWatching(t, config)
		w.start(t)
		time.Sleep(time.Minute)
		consul.set(at("lb1", "10.0.0.2", 81), at("lb0", "10.0.0.1", 80))
		time.Sleep(time.Minute)
		consul.set(at("lb1", "10.0.0.2", 81))
		synctest.Wait()

		w.want(t, []string{lb0}, []string{lb0, lb1}, []string{lb1})
		if diff := cmp.Diff(w.lines(), []string{"target added " + lb0, "target added " + lb1, "target removed " + lb0}); diff != "" {
			t.Errorf("log (-got +want):\n%s", diff)
		}
		for _, q := range consul.asked() {
			if !q.passing {
				t.Errorf("query %+v: asks for instances that don't pass, too", q)
			}
		}
	})
}

func TestAnAddressIsTheServicesElseTheNodesAndHasThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("a", "", 80), at("b", "fd00::1", 8080), at("c", "lb2.example", 80))
		w, err := discover.New(discover.Config{Consul: config, Service: "lb", Path: "/slow?ms=5"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.First(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"http://10.0.0.9:80/slow?ms=5", "http://[fd00::1]:8080/slow?ms=5", "http://lb2.example:80/slow?ms=5"}
		if diff := cmp.Diff(texts(got), want); diff != "" {
			t.Errorf("targets (-got +want):\n%s", diff)
		}
	})
}

// Any program that can register chooses address and port.
func TestAnInstanceThatCannotBeUsedIsLeftOutAndNamedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		bad := []*api.ServiceEntry{at("evil/../x", "10.0.0.1:80/?", 80), at("user", "me@lb0", 80), at("port", "10.0.0.3", 70000), at("none", "10.0.0.4", 0)}
		consul.set(append(bad, at("lb0", "10.0.0.1", 80))...)
		w := newWatching(t, config)
		w.start(t)
		time.Sleep(time.Second)
		consul.set(append(bad, at("lb0", "10.0.0.1", 80), at("lb1", "10.0.0.2", 81))...)
		synctest.Wait()

		w.want(t, []string{lb0}, []string{lb0, lb1})
		named := map[string]int{}
		for _, e := range w.logs.FilterMessage("invalid instance ignored").All() {
			id, _ := e.ContextMap()["id"].(string)
			named[id]++
		}
		if diff := cmp.Diff(named, map[string]int{"evil/../x": 1, "user": 1, "port": 1, "none": 1}); diff != "" {
			t.Errorf("instances named in the log (-got +want):\n%s", diff)
		}
	})
}

func TestAFailedQueryKeepsTheKnownAndIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("lb0", "10.0.0.1", 80))
		w := newWatching(t, config)
		w.start(t)
		synctest.Wait()
		consul.change(func() { consul.broken = true })
		time.Sleep(time.Minute)
		failed := len(consul.asked())
		consul.change(func() {
			consul.broken = false
			consul.index = 3 // another one, that has just begun
			consul.entries = []*api.ServiceEntry{at("lb0", "10.0.0.1", 80), at("lb1", "10.0.0.2", 81)}
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()

		w.want(t, []string{lb0}, []string{lb0, lb1})
		want := []string{"target added " + lb0, "Consul query failed, keeping current targets", "Consul query succeeded again", "target added " + lb1}
		if diff := cmp.Diff(w.lines(), want); diff != "" {
			t.Errorf("log (-got +want):\n%s", diff)
		}
		if failed < 10 || failed > 120 {
			t.Errorf("queries in a minute without Consul: got %d, want some tens", failed)
		}
	})
}

// A Consul that was restarted in memory knows no instance until they have
// registered again.
func TestAnEmptyAnswerKeepsTheLastKnownTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("lb0", "10.0.0.1", 80), at("lb1", "10.0.0.2", 81))
		w := newWatching(t, config)
		w.start(t)
		consul.set()
		time.Sleep(time.Minute)
		consul.set(at("lb1", "10.0.0.2", 81))
		synctest.Wait()

		w.want(t, []string{lb0, lb1}, []string{lb1})
		want := []string{
			"target added " + lb0, "target added " + lb1, "no passing instances, keeping last known targets",
			"passing instances again", "target removed " + lb0,
		}
		if diff := cmp.Diff(w.lines(), want); diff != "" {
			t.Errorf("log (-got +want):\n%s", diff)
		}
	})
}

// Its index begins again, and a query with the old one is held for its wait.
func TestConsul_LostItsDataUnnoticed_IsFollowedAfterOneWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("lb0", "10.0.0.1", 80))
		w := newWatching(t, config)
		w.start(t)
		synctest.Wait()
		consul.change(func() { consul.index = 3 })
		time.Sleep(45 * time.Second) // one whole wait, and a little
		consul.change(func() { consul.entries = []*api.ServiceEntry{at("lb1", "10.0.0.2", 81)} })
		time.Sleep(time.Second)
		w.want(t, []string{lb0}, []string{lb1})
	})
}

// net/http sends a query again, on a new connection, when the one that it had
// kept breaks. With the old index it would be held.
func TestABrokenConnectionIsNoticedThoughAnotherConsulTakesTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("lb0", "10.0.0.1", 80))
		w := newWatching(t, config)
		w.start(t)
		time.Sleep(time.Second)
		consul.change(func() {
			consul.cuts, consul.index = 1, 3
			consul.entries = []*api.ServiceEntry{at("lb1", "10.0.0.2", 81)}
		})
		time.Sleep(time.Second)
		w.want(t, []string{lb0}, []string{lb1})
	})
}

func TestAnIndexThatNeverRestsMakesNoBusyLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		consul.set(at("lb0", "10.0.0.1", 80))
		w := newWatching(t, config)
		w.start(t)
		before := len(consul.asked())
		for range 10_000 {
			consul.set(at("lb0", "10.0.0.1", 80))
			time.Sleep(time.Millisecond)
		}
		if got := len(consul.asked()) - before; got < 100 || got > 210 {
			t.Errorf("queries in 10 s of a change every millisecond: got %d, want at most 20 a second", got)
		}
		w.want(t, []string{lb0})
	})
}

func TestFirstWaitsForAnInstanceThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consul, config := newConsul(t)
		began := time.Now()
		go func() {
			time.Sleep(12 * time.Second)
			consul.set(at("lb0", "10.0.0.1", 80))
		}()
		got, err := newWatching(t, config).watch.First(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); len(got) != 1 || took != 12*time.Second {
			t.Errorf("got %v after %s, want lb0 the moment that it passes, 12 s", got, took)
		}
	})
}

func TestFirstIsBoundedAndSaysWhatThereWasInstead(t *testing.T) {
	errTime := errors.New("waited for 30s")
	for name, c := range map[string]struct {
		broken bool
		want   string
	}{
		"none passes": {false, `no instance of "lb" passes its checks`},
		"no leader":   {true, "No cluster leader"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				consul, config := newConsul(t)
				consul.change(func() { consul.broken = c.broken })
				ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errTime)
				defer cancel()
				began := time.Now()
				_, err := newWatching(t, config).watch.First(ctx)
				if !errors.Is(err, errTime) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q and the deadline", err, c.want)
				}
				if took := time.Since(began); took > 31*time.Second {
					t.Errorf("took %s, want 30 s", took)
				}
			})
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []discover.Config{{Path: "/"}, {Service: "lb"}, {Service: "lb", Path: "slow"}, {Service: "lb", Path: "http://elsewhere/"}} {
		c.Consul = &api.Config{Address: "consul:8500"}
		if _, err := discover.New(c); err == nil {
			t.Errorf("New(%+v): got no error", c)
		}
	}
}

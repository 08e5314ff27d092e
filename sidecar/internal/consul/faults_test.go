package consul_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/proctest"
)

// TestKnownStaysThroughFault: whatever goes wrong, what is known stays, and
// when it goes right again the source follows on.
func TestKnownStaysThroughFault(t *testing.T) {
	faults := []consultest.Fault{
		consultest.NoLeader(), consultest.Denied(), consultest.Close(),
		consultest.Body("[]x"), consultest.Body("null"), consultest.Body("{}"), consultest.Body(""), consultest.Body("["),
		consultest.Body(`[{"Service":{"Port":"x"}}]`), consultest.Body("<html>"),
		consultest.Header("X-Consul-Index", "0"), consultest.Header("X-Consul-Index", ""), consultest.Header("X-Consul-Index", "-1"),
		consultest.Header("X-Consul-LastContact", ""), consultest.Header("X-Consul-LastContact", "18446744073709551615"),
		consultest.Header("X-Consul-KnownLeader", "false"),
		consultest.Header("X-Consul-Results-Filtered-By-ACLs", "true"),
	}
	for _, fault := range faults {
		t.Run(fault.String(), func(t *testing.T) {
			f := consultest.NewFake(t)
			w := start(t, f.Address(), consul.Options{})
			w.register("a")
			w.await("one", are("a=passing"))
			drain(w)
			f.Break(fault)
			f.Touch("web")
			w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
			if got := w.Snapshot(); !are("a=passing")(got) {
				t.Errorf("servers during the fault = %q, want a still", servers(got))
			}
			select {
			case <-w.Changed():
				t.Error("an event came though nothing is known to have changed")
			default:
			}
			f.Mend()
			w.register("b")
			w.await("two", are("a=passing", "b=passing"))
			if h := w.Health("web"); h.Err != nil {
				t.Errorf("error after the fault = %v, want none", h.Err)
			}
		})
	}
}

func drain(w *watched) {
	select {
	case <-w.Changed():
	default:
	}
}

// TestEmptyStreamedAnswerTakesNothingAway: an agent whose stream starts afresh
// gives an empty list with status 200.
func TestEmptyStreamedAnswerTakesNothingAway(t *testing.T) {
	for _, fault := range []consultest.Fault{consultest.StreamReset(), consultest.StreamLost()} {
		t.Run(fault.String(), func(t *testing.T) {
			f := consultest.NewFake(t)
			w := start(t, f.Address(), consul.Options{})
			w.register("a")
			w.await("one", are("a=passing"))
			f.Break(fault)
			before := len(f.Requests())
			for len(f.Requests()) < before+8 {
				if !are("a=passing")(w.Snapshot()) {
					t.Fatalf("servers = %q, want a still", servers(w.Snapshot()))
				}
				time.Sleep(time.Millisecond)
			}
			f.Mend()
			w.deregister("a")
			w.await("none", are())
		})
	}
}

func TestStaleAnswerIsAskedForAgainConsistently(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{MaxStale: time.Second})
	f.Break(consultest.Stale(1100 * time.Millisecond))
	w.register("a")
	w.await("one", are("a=passing"))
	requests := f.Requests()
	if !slices.ContainsFunc(requests, func(r string) bool { return strings.Contains(r, "consistent") }) {
		t.Errorf("requests = %q, want a consistent one", requests)
	}
	f.Break(consultest.Stale(time.Second))
	w.register("b")
	w.await("two", are("a=passing", "b=passing"))
}

func TestForgottenCatalogIsAskedFromTheStart(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	for i := range 20 {
		w.register(fmt.Sprint("a", i))
	}
	w.await("twenty", func(s catalog.Snapshot) bool { return len(s.Service("web").Instances) == 20 })
	f.Forget()
	w.await("none", are())
	w.register("b")
	w.await("one", are("b=passing"))
}

func TestSourceSurvivesRestartOfConsul(t *testing.T) {
	p := consultest.StartProcess(t)
	w := start(t, p.Address(), consul.Options{})
	w.register("a")
	w.await("one", are("a=passing"))
	p.Kill()
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), p.Address()) {
		t.Errorf("error = %q, want the address in it", h.Err)
	}
	if !are("a=passing")(w.Snapshot()) {
		t.Errorf("servers while Consul is down = %q, want a still", servers(w.Snapshot()))
	}
	p.Restart()
	w.register("b")
	w.await("the one of the new Consul", are("b=passing"))
}

func (w *watched) awaitHealthOf(what string, ok func() error) {
	w.t.Helper()
	for over := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(over) {
			w.t.Fatalf("no %s within %v: %v", what, deadline, err)
		}
	}
}

// TestQueryAfterFailureStartsFromTheBeginning: servers that have lost the
// catalog behind an agent that lives would let the old index block for minutes.
func TestQueryAfterFailureStartsFromTheBeginning(t *testing.T) {
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{})
	w.register("a")
	w.await("one", are("a=passing"))
	f.Break(consultest.NoLeader())
	f.Touch("web")
	w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	asked := len(f.Requests())
	w.awaitHealthOf("next query", func() error {
		if len(f.Requests()) == asked {
			return errors.New("none yet")
		}
		return nil
	})
	if got := f.Requests()[asked]; strings.Contains(got, "index=") {
		t.Errorf("query after a failure = %q, want no index", got)
	}
}

// TestNoFailureIsLoggedAtAnOrdinaryStart: what the source gives up and asks
// again by itself is no failure.
func TestNoFailureIsLoggedAtAnOrdinaryStart(t *testing.T) {
	f := consultest.NewFake(t)
	var log proctest.Output
	w := start(t, f.Address(), consul.Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})}, fifty()...)
	w.await("all answers", allKnown)
	w.awaitHealthOf("blocked queries", func() error { return blocked(f) })
	w.register("a")
	w.await("one", are("a=passing"))
	f.Forget() // breaks the connections
	w.await("none", are())
	if err := w.stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	if got := log.String(); got != "" {
		t.Errorf("log = %q, want nothing", got)
	}
}

func TestOneLineForEachTransition(t *testing.T) {
	f := consultest.NewFake(t)
	var log proctest.Output
	w := start(t, f.Address(), consul.Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})})
	w.await("empty service", are())
	w.register("bad", func(r *api.AgentServiceRegistration) { r.Address = "evil\nname" })
	w.await("rejection", func(s catalog.Snapshot) bool { return len(s.Service("web").Rejected) == 1 })
	w.register("odd", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"maxconn": "many"} })
	w.await("odd one", are("odd=passing"))
	for range 5 {
		f.Touch("web")
	}
	f.Break(consultest.NoLeader())
	w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	asked := len(f.Requests())
	w.awaitHealthOf("more failures", func() error {
		if len(f.Requests()) < asked+3 {
			return errors.New("not yet")
		}
		return nil
	})
	f.Mend()
	w.awaitHealth("answer", func(h catalog.SourceHealth) bool { return h.Err == nil })
	if err := w.stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"instances changed": 3, `invalid instance ignored: service=web instance="\"bad\" on \"lab\"`: 1,
		"invalid service meta ignored": 1, "Consul query failed": 1, "Consul query succeeded again": 1,
	} {
		if got := strings.Count(log.String(), line); got != want {
			t.Errorf("%d lines with %q, want %d, in:\n%s", got, line, want, log.String())
		}
	}
	if got := strings.Count(log.String(), "\n"); got != 7 {
		t.Errorf("%d lines, want 7:\n%s", got, log.String())
	}
}

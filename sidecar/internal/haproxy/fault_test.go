package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

var faultyBackends = []backendSpec{{name: "api", servers: []serverSpec{
	{name: "one", addr: addr("127.0.0.1:9"), weight: 1}, {name: "two", addr: addr("127.0.0.1:8"), weight: 1}, {name: "three", addr: addr("127.0.0.1:7"), weight: 1},
}}}

func profiles() []haproxytest.Profile {
	return []haproxytest.Profile{haproxytest.V26, haproxytest.V30, haproxytest.V34}
}

func TestAStepIsNotDoneUnlessHAProxySaidSo(t *testing.T) {
	t.Parallel()
	steps := []plan.Step{
		{Kind: plan.SetDrain, Backend: "api", Server: "one"},
		{Kind: plan.SetWeight, Backend: "api", Server: "two", Weight: 5},
		{Kind: plan.SetMaint, Backend: "api", Server: "three"},
		{Kind: plan.Delete, Backend: "api", Server: "three"},
	}
	for _, profile := range profiles() {
		for _, fault := range haproxytest.Faults {
			t.Run(profile.Version+" "+fault.String(), func(t *testing.T) {
				f := newFake(t, profile, faultyBackends)
				s := subject{client: newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), Timeout: time.Second})}
				s.observe(t)
				f.Fail(fault)
				errs := s.client.Apply(t.Context(), steps)
				done := doneOn(s.observe(t, "api"))
				for i, step := range steps {
					if errs[i] == nil && !done[string(step.Kind)] {
						t.Errorf("%s: told as done, and it is not", step.Kind)
					}
				}
				if errs[3] == nil {
					t.Error("delete: told as done after a connection broke")
				}
				if fault == haproxytest.BreakAfterFirst && errs[0] != nil {
					t.Errorf("the first step, that was answered: %v", errs[0])
				}
				// The next time all is well again.
				again := []plan.Step{steps[0], steps[1]}
				for i, err := range s.client.Apply(t.Context(), again) {
					if err != nil {
						t.Errorf("%s again: %v", again[i].Kind, err)
					}
				}
			})
		}
	}
}

// doneOn tells which of the steps of the test above HAProxy shows.
func doneOn(o plan.Observed) map[string]bool {
	done := map[string]bool{string(plan.Delete): true}
	for _, s := range o.Backends["api"].Servers {
		switch s.Name {
		case "one":
			done[string(plan.SetDrain)] = s.Admin == plan.Drain
		case "two":
			done[string(plan.SetWeight)] = s.Weight == 5
		case "three":
			done[string(plan.SetMaint)] = s.Admin == plan.Maint
			done[string(plan.Delete)] = false
		}
	}
	return done
}

func TestObserveGivesAllOrAnError(t *testing.T) {
	t.Parallel()
	for _, profile := range profiles() {
		for _, fault := range haproxytest.Faults {
			f := newFake(t, profile, faultyBackends)
			c := newTestClient(t, Options{Runtime: f.Runtime(), Timeout: time.Second})
			f.Fail(fault, fault) // it reads again once
			o, err := c.Observe(t.Context(), []string{"api"})
			if err == nil || o.Running || o.Backends != nil {
				t.Errorf("%s, %s: got %+v and error %v", profile.Version, fault, o, err)
			}
			if errors.Is(err, plan.ErrNotRunning) {
				t.Errorf("%s, %s: %v: something did run", profile.Version, fault, err)
			}
		}
	}
}

func TestAHAProxyThatHangsCostsOneTimeout(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, faultyBackends)
	c := newTestClient(t, Options{Runtime: f.Runtime(), Timeout: time.Second})
	if _, err := c.Observe(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	f.Fail(haproxytest.Hang)
	steps := []plan.Step{
		{Kind: plan.SetDrain, Backend: "api", Server: "one"},
		{Kind: plan.SetMaint, Backend: "api", Server: "one"}, // the next line begins here
		{Kind: plan.SetDrain, Backend: "api", Server: "two"},
	}
	before := len(f.Commands())
	for i, err := range c.Apply(t.Context(), steps) {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errEarlier) {
			t.Errorf("step %d: got %v", i, err)
		}
	}
	if got := f.Commands()[before:]; len(got) != 0 {
		t.Errorf("got %q sent after the timeout", got)
	}
}

func TestAReplyBeforeABreakCountsOnlyIfItIsGood(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, faultyBackends)
	c := newTestClient(t, Options{Runtime: f.Runtime()})
	if _, err := c.Observe(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	f.Fail(haproxytest.BreakAfterFirst)
	for i, err := range c.Apply(t.Context(), []plan.Step{
		{Kind: plan.SetMaint, Backend: "api", Server: "none"},
		{Kind: plan.SetMaint, Backend: "api", Server: "one"},
	}) {
		if err == nil {
			t.Errorf("step %d: told as done", i)
		}
	}
}

func TestACanceledContextEndsAnExchangeAtOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, faultyBackends)
	c := newTestClient(t, Options{Runtime: f.Runtime(), Timeout: time.Hour})
	f.Fail(haproxytest.Hang)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Observe(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNoServerComesTwiceOnALineAndLinesKeepTheirLimit(t *testing.T) {
	t.Parallel()
	for _, profile := range profiles() {
		var servers []serverSpec
		var steps []plan.Step
		for i := range 300 {
			name := fmt.Sprintf("server-with-a-long-name-%s-%03d", strings.Repeat("x", 60), i)
			servers = append(servers, serverSpec{name: name, addr: addr("127.0.0.1:9"), weight: 1})
			steps = append(steps, plan.Step{Kind: plan.SetWeight, Backend: "api", Server: name, Weight: 2})
		}
		steps = append(steps, steps...) // the same servers once more
		f := newFake(t, profile, []backendSpec{{name: "api", servers: servers}})
		c := newTestClient(t, Options{Runtime: f.Runtime()})
		for _, err := range c.Apply(t.Context(), steps) {
			if err != nil {
				t.Fatal(err)
			}
		}
		limit := 50 // commands, on 2.6
		if profile.Wait {
			limit = 200
		}
		for _, line := range f.Lines() {
			commands := strings.Split(line, "; ")
			if len(line) > 15_000 || len(commands) > limit {
				t.Errorf("%s: a line of %d bytes, %d commands", profile.Version, len(line), len(commands))
			}
			seen := map[string]bool{}
			for _, command := range commands {
				if seen[command] {
					t.Errorf("%s: %q twice on a line", profile.Version, command)
				}
				seen[command] = true
			}
		}
	}
}

func TestABusyServerIsNotDeleted(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, []backendSpec{{name: "api", servers: []serverSpec{
		{name: "busy", addr: addr("127.0.0.1:9"), weight: 1, disabled: true}, {name: "idle", addr: addr("127.0.0.1:9"), weight: 1, disabled: true},
	}}})
	f.Change(func(w *haproxytest.FakeWorker) {
		w.Backends[0].Servers[0].Sessions, w.Backends[0].Servers[1].Attached = 1, 3
	})
	c := newTestClient(t, Options{Runtime: f.Runtime()})
	errs := c.Apply(t.Context(), []plan.Step{{Kind: plan.Delete, Backend: "api", Server: "busy"}, {Kind: plan.Delete, Backend: "api", Server: "idle"}})
	if !strings.Contains(errText(errs[0]), "Server still has connections attached to it") {
		t.Errorf("busy: got %v", errs[0])
	}
	if errs[1] != nil {
		t.Errorf("idle, whose connections close when they are waited for: got %v", errs[1])
	}
}

func TestManyBusyServersDoNotHoldUpTheRest(t *testing.T) {
	t.Parallel()
	backend := backendSpec{name: "api"}
	var steps []plan.Step
	for i := range 10 {
		name := fmt.Sprintf("s%d", i)
		backend.servers = append(backend.servers, serverSpec{name: name, addr: addr("127.0.0.1:9"), weight: 1, disabled: true})
		steps = append(steps, plan.Step{Kind: plan.Delete, Backend: "api", Server: name})
	}
	f := newFake(t, haproxytest.V34, []backendSpec{backend})
	f.Change(func(w *haproxytest.FakeWorker) {
		for _, s := range w.Backends[0].Servers[:9] {
			s.Sessions = 1
		}
	})
	errs := newTestClient(t, Options{Runtime: f.Runtime()}).Apply(t.Context(), steps)
	waits := 0
	for _, command := range f.Commands() {
		if strings.HasPrefix(command, "wait ") {
			waits++
		}
	}
	if waits != maxWaits {
		t.Errorf("got %d waits, want %d", waits, maxWaits)
	}
	if errs[8] == nil || errs[9] != nil {
		t.Errorf("a busy one: %v, want an error; a free one: %v, want none", errs[8], errs[9])
	}
}

func TestCommandsAreCountedByKindAndResult(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, faultyBackends)
	counts := map[string]int{}
	c := newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), OnCommand: func(kind string, failed bool) {
		counts[fmt.Sprintf("%s %v", kind, failed)]++
	}})
	_, _ = c.Observe(t.Context(), nil)
	c.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}, {Kind: plan.SetDrain, Backend: "api", Server: "none"}})
	_ = c.Reload(t.Context(), testMark)
	f.Stop()
	_, _ = c.Observe(t.Context(), nil)
	c.Apply(t.Context(), []plan.Step{{Kind: plan.SetMaint, Backend: "api", Server: "one"}})
	for what, want := range map[string]int{"observe false": 1, "drain false": 1, "drain true": 1, "reload false": 1, "observe true": 1, "maint true": 1} {
		if counts[what] != want {
			t.Errorf("%s: got %d, want %d (%v)", what, counts[what], want, counts)
		}
	}
}

// Since 3.1 a reload may close a connection that the old worker has not taken yet.
func TestConnectionCutOff_Reads_AreRepeated(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, faultyBackends)
	c := newTestClient(t, Options{Runtime: f.Runtime(), Master: f.Master(), Timeout: time.Second})
	dial, cut := c.dial, false
	c.dial = func(ctx context.Context, e endpoint) (net.Conn, error) {
		if !cut {
			return dial(ctx, e)
		}
		cut = false
		ours, theirs := net.Pipe()
		go func() {
			_, _ = bufio.NewReader(theirs).ReadString('\n')
			_ = theirs.Close()
		}()
		return ours, nil
	}
	for what, read := range map[string]func(context.Context) error{
		"Probe":      c.Probe,
		"Observe":    func(ctx context.Context) error { _, err := c.Observe(ctx, []string{"api"}); return err },
		"Traffic":    func(ctx context.Context) error { _, err := c.Traffic(ctx, []string{"api"}); return err },
		"OldWorkers": func(ctx context.Context) error { _, err := c.OldWorkers(ctx); return err },
	} {
		cut = true
		if err := read(t.Context()); err != nil || cut {
			t.Errorf("%s: got %v, and the connection was cut off: %v", what, err, !cut)
		}
	}
	cut = true
	if errs := c.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}}); errs[0] == nil {
		t.Error("Apply: told as done after its connection was cut off")
	}
	cut = true
	if errs := c.Apply(t.Context(), []plan.Step{{Kind: plan.Shutdown, Backend: "api", Server: "one"}}); errs[0] != nil || cut {
		t.Errorf("Apply of a shutdown, which may be sent twice: got %v, and the connection was cut off: %v", errs[0], !cut)
	}
}

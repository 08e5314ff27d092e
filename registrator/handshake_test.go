package registrator_test

import (
	"context"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/test/proctest"
)

// leaver is a program that leaves, with sidecars around it, in a bubble.
type leaver struct {
	*agentFake
	*pipes
	config registrator.Config
	log    proctest.Output

	outcomes []registrator.Drain

	supersede bool // another registers under its ID meanwhile

	agentAt   map[time.Duration]string // what its agent check hears then, since it began to leave; "" is to be filled in
	agentFrom string                   // where that asks from
}

func newLeaver() *leaver {
	l := &leaver{agentFake: &agentFake{lag: 20 * time.Millisecond}, pipes: newPipes()}
	l.config = fakeConfig(l.agentFake)
	l.config.Logger = hclog.New(&hclog.LoggerOptions{Output: &l.log, DisableTime: true})
	l.config.OnDrain = func(g registrator.Drain) { l.outcomes = append(l.outcomes, g) }
	return l
}

// with adds a load balancer whose sidecar answers at the address.
func (l *leaver) with(name, at string, handler http.HandlerFunc) *leaver {
	l.put(at, handler)
	return l.known(balancer(name, at))
}

func (l *leaver) known(e *api.ServiceEntry) *leaver {
	l.change(func() { l.sidecars = append(l.sidecars, e) })
	return l
}

// leaves registers and leaves, and gives how long it took until the stop.
func (l *leaver) leaves(t *testing.T, ctx context.Context) (time.Duration, error) { //nolint:revive // t first

	t.Helper()
	r := registered(t, l.config) //nolint:contextcheck // ctx is of the leave
	r.SetDial(l.dial)
	time.Sleep(time.Second) // of its life
	began := time.Now()
	for _, at := range slices.Collect(maps.Keys(l.agentAt)) {
		time.AfterFunc(at, func() {
			says := r.AgentSays(l.agentFrom)
			l.agentFake.mu.Lock()
			defer l.agentFake.mu.Unlock()
			l.agentAt[at] = says
		})
	}
	var took time.Duration
	err := r.Leave(ctx, func(context.Context) error {
		took = time.Since(began)
		if !strings.Contains(l.agentFake.known, contract.KeyDrain) && !l.supersede {
			t.Errorf("registration at the stop: got %s, want it marked", l.agentFake.known)
		}
		return nil
	})
	l.serve.Wait() // would hang if a connection were left open
	return took, err
}

// got returns the outcomes, as "name outcome".
func (l *leaver) got() []string {
	var out []string
	for _, o := range l.outcomes {
		out = append(out, o.Balancer+" "+string(o.Outcome))
	}
	return out
}

func (l *leaver) want(t *testing.T, outcomes ...string) {
	t.Helper()
	if diff := cmp.Diff(l.got(), outcomes); diff != "" {
		t.Errorf("outcomes (-got +want):\n%s\nlog:\n%s", diff, &l.log)
	}
}

// leavesWithin leaves without an error, stops between two times and has these outcomes.
func (l *leaver) leavesWithin(t *testing.T, least, most time.Duration, outcomes ...string) {
	t.Helper()
	took, err := l.leaves(t, t.Context())
	if err != nil {
		t.Error(err)
	}
	within(t, took, least, most)
	l.want(t, outcomes...)
}

func within(t *testing.T, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("the stop came after %v, want %v to %v", got, least, most)
	}
}

const (
	lb0At = "192.0.2.1:9600"
	lb1At = "192.0.2.2:9600"
)

func TestStopsOnceAllHaveDrainedAndNoLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		idle := newSidecar("lb0").drainsIn(0, 0)
		l.with("lb0", lb0At, idle.ServeHTTP)
		l.with("lb1", lb1At, newSidecar("lb1").drainsIn(8*time.Second, 3).ServeHTTP) // 7 s after the mark
		l.leavesWithin(t, 7*time.Second, 7*time.Second, "lb0 drained", "lb1 drained")
		if got := l.outcomes[1]; got.MaxSessions != 3 || got.Sessions != 0 || got.Address != lb1At || got.Reason != nil {
			t.Errorf("lb1: got %+v, want 3 sessions seen and none left", got)
		}
		for want, times := range map[string]int{"drained on load balancer": 2, "lb=lb1 at=192.0.2.2:9600 ms=7000 sessions_seen=3": 1, `each="lb0 20ms, lb1 7s"`: 1, "[WARN]": 0} {
			if got := strings.Count(l.log.String(), want); got != times {
				t.Errorf("log: got %q %d times, want %d:\n%s", want, got, times, &l.log)
			}
		}
	})
}

func TestLeave_NoSessionAnywhere_StopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, l.lag, l.lag) // until Consul's servers have the mark
	})
}

// Another process takes over the registration, under the same ID: a restart
// that does not wait for the end.
func TestOneThatComesBackUnderTheSameIDIsNotTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.supersede = true
		l.with("lb0", lb0At, newSidecar("lb0").ServeHTTP) // it routes to the new one, and never says drained
		other := l.config
		other.Owner = "another process"
		time.AfterFunc(11*time.Second, func() { registered(t, other).Close() })
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		// 10 s after the mark; a look; then the wait.
		within(t, took, 10*time.Second+registrator.DefaultLeaveWait, 12*time.Second+registrator.DefaultLeaveWait)
		if got := l.agentFake.known; got == "" || strings.Contains(got, contract.KeyDrain) {
			t.Errorf("registration at the end: got %q, want the new one's", got)
		}
		for _, want := range []string{"ID taken by another process, waiting leave_wait", "ID taken by another process, not deregistered"} {
			if !strings.Contains(l.log.String(), want) {
				t.Errorf("log: want %q in\n%s", want, &l.log)
			}
		}
	})
}

func TestAsksWithTheIndexThatHasTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		late := newSidecar("lb0").drainsIn(0, 0)
		late.index = 0 // it has heard of nothing, and so knows of no session
		l.with("lb0", lb0At, late.ServeHTTP)
		time.AfterFunc(3*time.Second, func() {
			l.agentFake.mu.Lock()
			index := l.index
			l.agentFake.mu.Unlock()
			late.becomes(func() { late.index = index })
		})
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, 2*time.Second, 2*time.Second)
		if got := late.questions(); len(got) == 0 || !strings.HasSuffix(got[0], "/api/v1/drain/api/api-1?index=3&wait=0s") {
			t.Errorf("questions: got %q, want Consul's index of the mark, 3: sidecar, registration, mark", got)
		}
	})
}

func TestServiceAndInstanceAreEscapedInTheQuestion(t *testing.T) {
	for id, want := range map[string]string{"a b/c?d#e%2F": "a%20b%2Fc%3Fd%23e%252F", "..": "%2E%2E", `q"q\`: "q%22q%5C", "é": "%C3%A9"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLeaver()
			l.config.ID = id
			s := newSidecar("lb0").drainsIn(0, 0)
			l.with("lb0", lb0At, s.ServeHTTP)
			if _, err := l.leaves(t, t.Context()); err != nil && !strings.Contains(err.Error(), "deregister") { // whose path the fake takes apart
				t.Error(err)
			}
			if got := s.questions(); len(got) != 1 || !strings.HasPrefix(got[0], "/api/v1/drain/api/"+want+"?") {
				t.Errorf("%q: asked %q, want once %s", id, got, want)
			}
			l.want(t, "lb0 drained")
		})
	}
}

func TestLeaveTimeoutBoundsTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.config.LeaveTimeout = 12 * time.Second
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(time.Hour, 7).ServeHTTP)
		l.with("lb1", lb1At, newSidecar("lb1").drainsIn(0, 0).ServeHTTP)
		took, err := l.leaves(t, t.Context())
		within(t, took, 12*time.Second, 12*time.Second)
		if err == nil || !strings.Contains(err.Error(), `leave "api-1": drain: not drained on lb0 (7 sessions): leave timeout of 12s expired`) {
			t.Errorf("Leave = %v, want which have not drained, and why it ended", err)
		}
		l.want(t, "lb1 drained", "lb0 cut")
	})
}

func TestEndOfTheContextCutsTheHandshakeShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(time.Hour, 7).ServeHTTP)
		ctx, cancel := context.WithCancelCause(t.Context())
		because := errors.New("it has ended")
		time.AfterFunc(5*time.Second, func() { cancel(because) })
		took, err := l.leaves(t, ctx)
		within(t, took, 4*time.Second, 4*time.Second)
		if !errors.Is(err, because) {
			t.Errorf("Leave = %v, want the cause %v", err, because)
		}
		l.want(t, "lb0 cut")
	})
}

func TestTokenIsReadAgainForEachQuestionAndNeverShown(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/token"
	write(t, file, "old-secret\n")
	s := newSidecar("lb0")
	s.drained, s.token = true, "new-secret"
	var once sync.Once
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		once.Do(func() { write(t, file, "new-secret\n") })
	}))
	t.Cleanup(server.Close)
	authority := t.TempDir() + "/ca.pem"
	write(t, authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	f := &agentFake{}
	f.sidecars = append(f.sidecars, entry("sc", server.Listener.Addr().String(), contract.Sidecar{Balancer: "lb0", HTTPS: true, Unlisted: true}))
	var log proctest.Output
	var got []registrator.Drain
	config := fakeConfig(f)
	config.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	config.Sidecars = registrator.Sidecars{TokenFile: file, CAFile: authority}
	config.OnDrain = func(l registrator.Drain) { got = append(got, l) }
	if err := registered(t, config).Leave(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if len(got) != 1 || got[0].Outcome != registrator.OutcomeDrained {
		t.Errorf("got %+v, want it drained once the file has the right token", got)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("log: got\n%s\nwant no token in it", &log)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

package registrator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
)

// agentFake answers in place of the network, so that time can be the test's.
type agentFake struct {
	mu     sync.Mutex
	known  string // body of the last registration; "" is forgotten
	checks string // their states, in JSON
	calls  []call
	answer func(context.Context, call) (status int, err error) // nil: as an agent

	// What Consul's servers have.
	lag      time.Duration // until they have what the agent was told
	shown    string        // body of the registration that they have
	sidecars []*api.ServiceEntry
	index    uint64
	newer    chan struct{} // closed with the next change

	datacenter string                         // theirs
	elsewhere  map[string][]*api.ServiceEntry // the sidecars of other ones that can be reached; nil: they do not answer
}

type call struct {
	at   time.Time
	what string // method and path
	body string
}

var errRefused = errors.New("connection refused")

func (f *agentFake) RoundTrip(r *http.Request) (*http.Response, error) {
	c := call{at: time.Now(), what: r.Method + " " + r.URL.Path}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		c.body = string(b)
	}
	f.mu.Lock()
	f.calls = append(f.calls, c)
	answer := f.answer
	f.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	status, body := http.StatusOK, "{}"
	if answer != nil {
		var err error
		if status, err = answer(r.Context(), c); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if status == http.StatusOK {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/health/service/"):
			return f.health(r)
		case strings.HasSuffix(r.URL.Path, "/register"):
			f.known = c.body
			f.passOn(c.body)
		case strings.Contains(r.URL.Path, "/deregister/"):
			if f.known == "" {
				status = http.StatusNotFound
			}
			f.known = ""
			f.passOn("")
		case r.URL.Path == "/v1/agent/services":
			if f.known != "" {
				body = `{"api-1":` + f.known + `}`
			}
		case f.known == "":
			status = http.StatusNotFound
		case strings.HasPrefix(r.URL.Path, "/v1/agent/health/"):
			body = `{"Checks":[` + f.checks + `]}`
		case r.Method == http.MethodGet:
			body = f.known
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}, Request: r}, nil
}

func (f *agentFake) set(answer func(context.Context, call) (int, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// passOn makes Consul's servers have what the agent was told, in its order. It
// is called with the lock held.
func (f *agentFake) passOn(body string) {
	if f.lag == 0 {
		f.changed(func() { f.shown = body })
		return
	}
	time.AfterFunc(f.lag, func() { f.change(func() { f.shown = body }) })
}

// change changes what Consul's servers have.
func (f *agentFake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed(do)
}

// changed is change with the lock held.
func (f *agentFake) changed(do func()) {
	do()
	f.index++
	if f.newer != nil {
		close(f.newer)
	}
	f.newer = make(chan struct{})
}

// health answers as Consul's servers, a blocking query too. It is called with
// the lock held.
func (f *agentFake) health(r *http.Request) (*http.Response, error) {
	query := r.URL.Query()
	after, _ := strconv.ParseUint(query.Get("index"), 10, 64)
	wait, _ := time.ParseDuration(query.Get("wait"))
	over := time.NewTimer(wait)
	defer over.Stop()
	for waiting := after > 0; waiting && f.index <= after; {
		newer := f.newer
		f.mu.Unlock()
		select {
		case <-newer:
		case <-over.C:
			waiting = false
		case <-r.Context().Done():
		}
		f.mu.Lock()
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
	}
	entries := f.sidecars
	if dc := query.Get("dc"); dc != "" {
		there, reached := f.elsewhere[dc]
		if there == nil && reached { // packets are lost
			f.mu.Unlock()
			<-r.Context().Done()
			f.mu.Lock()
			return nil, r.Context().Err()
		}
		if !reached {
			return &http.Response{StatusCode: http.StatusInternalServerError, Body: io.NopCloser(strings.NewReader("No path to datacenter")), Header: http.Header{}, Request: r}, nil
		}
		entries = there
	}
	if strings.HasSuffix(r.URL.Path, "/api") {
		entries = nil
		if f.shown != "" {
			var own api.AgentService
			var body struct {
				ID   string
				Meta map[string]string
			}
			if err := json.Unmarshal([]byte(f.shown), &body); err != nil {
				return nil, err
			}
			own.ID, own.Meta = body.ID, body.Meta
			entries = []*api.ServiceEntry{{Node: &api.Node{Node: "n", Datacenter: f.datacenter}, Service: &own}}
		}
	}
	body, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	header := http.Header{"X-Consul-Index": {strconv.FormatUint(f.index, 10)}}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Header: header, Request: r}, nil
}

func (f *agentFake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = ""
}

func (f *agentFake) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if strings.HasPrefix(c.what, what) {
			n++
		}
	}
	return n
}

const (
	registerCall   = "PUT /v1/agent/service/register"
	deregisterCall = "PUT /v1/agent/service/deregister/api-1"
	lookCall       = "GET /v1/agent/service/api-1"
	beatCall       = "PUT /v1/agent/check/update/"
)

func down(context.Context, call) (int, error) { return 0, errRefused }

func hang(ctx context.Context, _ call) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func fakeConfig(f *agentFake) registrator.Config {
	return registrator.Config{
		Consul:  &api.Config{Address: "127.0.0.1:1", HttpClient: &http.Client{Transport: f}},
		Service: "api", ID: "api-1", Port: 4000,
	}
}

func leaveIn(t *testing.T, r *registrator.Registration, ctx context.Context, stop func(context.Context) error) (time.Duration, error) { //nolint:revive // t first
	t.Helper()
	began := time.Now()
	err := r.Leave(ctx, stop)
	return time.Since(began), err
}

func TestLeaveIsBoundedWhateverConsulDoes(t *testing.T) {
	boom := errors.New("boom")
	tests := map[string]struct {
		answer   func(context.Context, call) (int, error)
		stopErr  error
		deadline time.Duration // of ctx; 0 for none
		most     time.Duration
		errs     []string
	}{
		"all is well":                 {most: 3 * time.Second},
		"the stop fails":              {stopErr: boom, most: 3 * time.Second, errs: []string{`leave "api-1": stop: boom`}},
		"Consul is down":              {answer: down, most: 8 * time.Second, errs: []string{"mark: ", "connection refused", "deregister: "}},
		"Consul is down and the stop": {answer: down, stopErr: boom, most: 8 * time.Second, errs: []string{"mark: ", "stop: boom", "deregister: "}},
		"Consul hangs":                {answer: hang, most: 8 * time.Second, errs: []string{"mark: ", "deregister: "}},
		"Consul says no": {
			answer: func(context.Context, call) (int, error) { return http.StatusForbidden, nil },
			most:   8 * time.Second, errs: []string{"mark: ", "403", "deregister: "},
		},
		"little time is left":            {deadline: time.Second, most: time.Second, errs: []string{"drain: wait of 3s for the load balancers interrupted"}},
		"no time is left, Consul is out": {answer: hang, deadline: time.Nanosecond, most: 5*time.Second + 1, errs: []string{"mark: ", "deregister: "}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &agentFake{}
				r := registered(t, fakeConfig(f))
				synctest.Wait()
				f.set(tc.answer)
				ctx := t.Context()
				if tc.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.deadline)
					defer cancel()
				}
				stopped := 0
				took, err := leaveIn(t, r, ctx, func(context.Context) error {
					stopped++
					return tc.stopErr
				})
				if stopped != 1 {
					t.Errorf("stop was called %d times, want once", stopped)
				}
				if took > tc.most {
					t.Errorf("Leave took %v, want at most %v", took, tc.most)
				}
				if tc.answer == nil && f.known != "" {
					t.Errorf("registered after Leave: %s", f.known)
				}
				if (err != nil) != (len(tc.errs) > 0) {
					t.Fatalf("Leave = %v, want %q", err, tc.errs)
				}
				for _, want := range tc.errs {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Leave = %q, want %q in it", err, want)
					}
				}
				if tc.stopErr != nil && !errors.Is(err, tc.stopErr) {
					t.Errorf("Leave = %v, want it to wrap %v", err, tc.stopErr)
				}
			})
		})
	}
}

func TestLeaveWaitsForLoadBalancersExactlyItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		began := time.Now()
		took, err := leaveIn(t, r, t.Context(), func(context.Context) error {
			if got := time.Since(began); got != registrator.DefaultLeaveWait {
				t.Errorf("stop after %v, want after %v", got, registrator.DefaultLeaveWait)
			}
			if !strings.Contains(f.known, "pointsman-drain") || strings.Contains(f.known, `"Status":"critical"`) {
				t.Errorf("registration at the stop = %s, want it marked", f.known)
			}
			return nil
		})
		if err != nil || took != registrator.DefaultLeaveWait {
			t.Errorf("Leave took %v and gave %v, want %v and nil", took, err, registrator.DefaultLeaveWait)
		}
	})
}

func TestMarkIsTriedAgainWhileConsulRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		synctest.Wait()
		f.set(down)
		time.AfterFunc(time.Second, func() { f.set(nil) })
		if _, err := leaveIn(t, r, t.Context(), func(context.Context) error {
			if !strings.Contains(f.known, "pointsman-drain") {
				t.Errorf("registration at the stop = %s, want it marked", f.known)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestSecondLeaveDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		if err := r.Leave(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		calls := f.count("")
		err := r.Leave(t.Context(), func(context.Context) error {
			t.Error("stop was called again")
			return nil
		})
		if !errors.Is(err, registrator.ErrLeft) || f.count("") != calls {
			t.Errorf("second Leave = %v and %d calls, want %v and none", err, f.count("")-calls, registrator.ErrLeft)
		}
	})
}

func TestLeaveWithoutRegisterOnlyStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := newRegistration(t, fakeConfig(f))
		stopped := false
		took, err := leaveIn(t, r, t.Context(), func(context.Context) error { stopped = true; return nil })
		if err != nil || !stopped || took != 0 || f.count("") != 0 {
			t.Errorf("Leave = %v after %v, stopped %v, %d calls, want nil at once, stopped, none", err, took, stopped, f.count(""))
		}
		if err := r.Register(t.Context()); !errors.Is(err, registrator.ErrLeft) {
			t.Errorf("Register after it = %v, want %v", err, registrator.ErrLeft)
		}
	})
}

// TestRegistrationOnItsWayIsNotOvertakenByLeave: the watchdog's call that hangs
// while leaving begins must end before the mark is sent, or it would undo it.
func TestRegistrationOnItsWayIsNotOvertakenByLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		synctest.Wait()
		f.set(func(_ context.Context, c call) (int, error) {
			if c.what == registerCall && !strings.Contains(c.body, "pointsman-drain") {
				time.Sleep(2 * time.Second) // and arrives all the same
			}
			return http.StatusOK, nil
		})
		f.forget()
		time.Sleep(registrator.DefaultWatchdog + time.Millisecond) // the watchdog's call is on its way
		err := r.Leave(t.Context(), func(context.Context) error {
			if !strings.Contains(f.known, "pointsman-drain") {
				t.Errorf("registration at the stop = %s, want the marked one", f.known)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if f.known != "" {
			t.Errorf("registered after Leave: %s", f.known)
		}
	})
}

// TestLookOnItsWayRegistersNothing: the watchdog that learns only after leaving
// has begun that the agent forgot must not act on it.
func TestLookOnItsWayRegistersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		synctest.Wait()
		f.set(func(_ context.Context, c call) (int, error) {
			if c.what == lookCall {
				time.Sleep(2 * time.Second)
				return http.StatusNotFound, nil
			}
			return http.StatusOK, nil
		})
		time.Sleep(registrator.DefaultWatchdog + time.Millisecond) // the look is on its way
		err := r.Leave(t.Context(), func(context.Context) error {
			if got := f.count(registerCall); got != 2 || !strings.Contains(f.known, "pointsman-drain") {
				t.Errorf("%d registrations, the last %s, want 2, the last marked", got, f.known)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestRegisterOnItsWayIsTakenAwayByLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := newRegistration(t, fakeConfig(f))
		f.set(func(_ context.Context, c call) (int, error) {
			if c.what == registerCall {
				time.Sleep(time.Second)
			}
			return http.StatusOK, nil
		})
		done := make(chan error, 1)
		go func() { done <- r.Register(t.Context()) }()
		synctest.Wait()
		if err := r.Leave(t.Context(), nil); err != nil {
			t.Errorf("Leave = %v", err)
		}
		if err := <-done; !errors.Is(err, registrator.ErrLeft) {
			t.Errorf("Register while leaving = %v, want %v", err, registrator.ErrLeft)
		}
		time.Sleep(time.Minute)
		if f.known != "" {
			t.Errorf("registered after Leave: %s", f.known)
		}
	})
}

func TestNothingRegistersInALongLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		err := r.Leave(t.Context(), func(context.Context) error {
			f.forget()
			before := f.count(registerCall)
			time.Sleep(time.Hour) // a long download, say
			if got := f.count(registerCall) - before; got != 0 {
				t.Errorf("%d registrations while it left, want none", got)
			}
			return nil
		})
		if err != nil {
			t.Errorf("Leave = %v, want nil: what the agent has forgotten is as good as deregistered", err)
		}
	})
}

func TestWatchdogAsksInItsPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		r := registered(t, fakeConfig(f))
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		if got := f.count(lookCall); got != 11 {
			t.Errorf("%d looks in 20s, want 11: at once and every %v", got, registrator.DefaultWatchdog)
		}
		if got := f.count(registerCall); got != 1 {
			t.Errorf("%d registrations, want 1", got)
		}
		f.forget()
		time.Sleep(registrator.DefaultWatchdog)
		synctest.Wait()
		if got := f.count(registerCall); got != 2 {
			t.Errorf("%d registrations after the agent forgot, want 2", got)
		}
		f.set(down)
		f.forget()
		time.Sleep(time.Minute)
		f.set(nil)
		time.Sleep(registrator.DefaultWatchdog)
		synctest.Wait()
		if f.known == "" {
			t.Error("not registered again after an outage of the agent")
		}
		r.Close()
		calls := f.count("")
		time.Sleep(time.Minute)
		if got := f.count("") - calls; got != 0 {
			t.Errorf("%d calls after Close, want none", got)
		}
	})
}

func TestSignsOfLifeGoOnWhileLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{}
		config := fakeConfig(f)
		config.LeaveWait = time.Second
		config.Checks = []registrator.Check{{TTL: 9 * time.Second}, {Name: "slow", TTL: time.Minute}}
		r := registered(t, config)
		err := r.Leave(t.Context(), func(context.Context) error {
			before := f.count(beatCall)
			time.Sleep(30 * time.Second)
			if got := f.count(beatCall) - before; got != 20 {
				t.Errorf("%d signs of life in 30s, want 20: two checks, every 3s", got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestRegisterTriesUntilItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{answer: down}
		r := newRegistration(t, fakeConfig(f))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := r.Register(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), `"api-1"`) {
			t.Errorf("Register = %v, want the deadline, the last failure and the ID", err)
		}
		if got := f.count(registerCall); got < 6 || got > 20 {
			t.Errorf("%d tries in 10s, want 6 to 20", got)
		}
		f.set(nil)
		if err := r.Register(t.Context()); err != nil {
			t.Errorf("Register afterwards = %v, want nil", err)
		}
		if err := r.Register(t.Context()); err == nil || !strings.Contains(err.Error(), "already registered") {
			t.Errorf("a second Register = %v, want an error", err)
		}
	})
}

func TestRegisterFailsAtOnceWhereTheAgentSaysItIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &agentFake{answer: func(context.Context, call) (int, error) { return http.StatusBadRequest, nil }}
		began := time.Now()
		err := newRegistration(t, fakeConfig(f)).Register(t.Context())
		if err == nil || !strings.Contains(err.Error(), "400") || time.Since(began) != 0 {
			t.Errorf("Register = %v after %v, want the 400 at once", err, time.Since(began))
		}
	})
}

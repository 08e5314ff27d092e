package serve_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pointsman/pointsman/services/api/internal/node"
	"github.com/pointsman/pointsman/services/api/internal/serve"
	"github.com/pointsman/pointsman/services/internal/memnet"
)

// registry is a Registration that keeps a record and fails on request.
type registry struct {
	drain  func()        // while leaving, before stop
	absent time.Duration // how long Register tries before it succeeds
	refuse error         // Register fails with it
	broken error         // Leave fails with it, before stop

	mu       sync.Mutex
	happened []string
}

func (r *registry) record(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.happened = append(r.happened, what)
}

func (r *registry) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.happened...)
}

func (r *registry) Register(ctx context.Context) error {
	if r.absent > 0 {
		timer := time.NewTimer(r.absent)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			time.Sleep(time.Second) // a call is on its way
			r.record("give up registering")
			return ctx.Err()
		}
	}
	if r.refuse != nil {
		return r.refuse
	}
	r.record("register")
	return nil
}

func (r *registry) Leave(ctx context.Context, stop func(context.Context) error) error {
	if r.broken != nil {
		return r.broken
	}
	r.record("mark leaving")
	if r.drain != nil {
		r.drain()
	}
	err := stop(ctx)
	r.record("deregister")
	return err
}

// lab is a node that is served in memory, in a bubble.
type lab struct {
	t         *testing.T
	listener  *memnet.Listener
	transport *http.Transport
	terminate context.CancelFunc
	result    chan error
	log       *observer.ObservedLogs
}

func start(t *testing.T, registration serve.Registration, linger, stopTimeout time.Duration, change ...func(*serve.Config)) *lab {
	t.Helper()
	n, err := node.New("api0", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	core, log := observer.New(zapcore.InfoLevel)
	l := &lab{t: t, listener: memnet.Listen(), result: make(chan error, 1), log: log}
	l.transport = &http.Transport{DialContext: l.listener.Dial}
	config := serve.Config{
		Listener: l.listener, Node: n, Registration: registration,
		Linger: linger, StopTimeout: stopTimeout, Logger: zap.New(core),
	}
	for _, c := range change {
		c(&config)
	}
	server, err := serve.New(config)
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, l.terminate = context.WithCancel(t.Context())
	go func() { l.result <- server.Run(ctx) }()
	t.Cleanup(l.transport.CloseIdleConnections)
	synctest.Wait()
	return l
}

// get asks and gives the status code and whether the connection is to be
// closed. Only one connection is ever idle, so a second get uses that of the
// first.
func (l *lab) get(path string) (code int, closes bool, err error) {
	request, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, "http://api"+path, http.NoBody)
	if err != nil {
		return 0, false, err
	}
	response, err := l.transport.RoundTrip(request)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body) // else the connection isn't kept
	return response.StatusCode, response.Close, err
}

// messages returns what was logged, without the fields.
func (l *lab) messages() []string {
	var out []string
	for _, e := range l.log.All() {
		out = append(out, e.Message)
	}
	return out
}

// A load balancer that was stopped for some seconds after it connected may send a request
// that it must not repeat.
func TestServer_NewConnectionIsSilentForSeconds_ItsRequestIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, &registry{}, time.Second, 30*time.Second)
		conn, err := l.listener.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		_, errWrite := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		answer, errRead := io.ReadAll(conn)
		if err := errors.Join(errWrite, errRead, conn.Close()); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
			t.Errorf("%v, the answer is %q", err, answer)
		}
		l.terminate()
		if err := <-l.result; err != nil {
			t.Error(err)
		}
	})
}

func TestStopsInTheOrderThatLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{}
		l := start(t, r, time.Second, 30*time.Second)
		slow := make(chan int)
		r.drain = func() {
			go func() { code, _, _ := l.get("/slow?ms=5000"); slow <- code }()
			synctest.Wait()
			code, closes, err := l.get("/healthz")
			if code != 200 || !closes || err != nil {
				t.Errorf("while it leaves: got %d, close %t, %v, want a green check and Connection: close", code, closes, err)
			}
		}
		if diff := cmp.Diff(r.events(), []string{"register"}); diff != "" {
			t.Errorf("while it serves (-got +want):\n%s", diff)
		}
		began := time.Now()
		l.terminate()

		if got := <-slow; got != 200 {
			t.Errorf("request in flight: got %d, want 200", got)
		}
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if diff := cmp.Diff(r.events(), []string{"register", "mark leaving", "deregister"}); diff != "" {
			t.Errorf("after it (-got +want):\n%s", diff)
		}
		if got := time.Since(began); got < 5*time.Second || got > 7*time.Second {
			t.Errorf("stop: took %s, want the 5 s of the request in flight and little more", got)
		}
		if _, _, err := l.get("/"); err == nil {
			t.Error("after the stop: got an answer, want a refused connection")
		}
		if diff := cmp.Diff(l.messages(), []string{"serving", "leaving", "listener closed", "stopped"}); diff != "" {
			t.Errorf("log (-got +want):\n%s", diff)
		}
	})
}

func TestRequestOnAnIdleConnectionIsAnsweredDuringLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, nil, 2*time.Second, 30*time.Second)
		if _, closes, err := l.get("/"); closes || err != nil {
			t.Fatalf("first request: got close %t, %v, want a connection that is kept", closes, err)
		}
		l.terminate()
		time.Sleep(time.Second)

		code, closes, err := l.get("/")

		if code != 200 || !closes || err != nil {
			t.Errorf("on the idle connection, one second into the stop: got %d, close %t, %v, want 200 and Connection: close", code, closes, err)
		}
		began := time.Now()
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		// net/http holds a closed connection up to half a second for the other
		// side to have read it all; the rest of the linger would be another.
		if got := time.Since(began); got > 600*time.Millisecond {
			t.Errorf("stop: took %s after the last connection was done with, want no more lingering", got)
		}
	})
}

func TestNodeThatAllHaveDrainedDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, nil, 20*time.Second, time.Minute, func(c *serve.Config) { c.Drained = func() bool { return true } })
		if _, _, err := l.get("/"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l.terminate()
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if got := time.Since(began); got > 600*time.Millisecond { // as above
			t.Errorf("stop: took %s beside an idle connection, want it at once", got)
		}
	})
}

func TestIdleConnectionsHoldTheStopUpNoLongerThanLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, nil, 2*time.Second, 30*time.Second)
		if _, _, err := l.get("/"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l.terminate()
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if got := time.Since(began); got != 2*time.Second {
			t.Errorf("stop: took %s, want the linger of 2s", got)
		}
	})
}

func TestStopIsBoundedThoughARequestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{}
		l := start(t, r, time.Second, 10*time.Second)
		failed := make(chan error, 1)
		go func() { _, _, err := l.get("/slow?ms=60000"); failed <- err }()
		synctest.Wait()
		began := time.Now()
		l.terminate()

		err := <-l.result

		if got := time.Since(began); got != 10*time.Second {
			t.Errorf("stop: took %s, want the bound of 10s", got)
		}
		if err == nil || !strings.Contains(err.Error(), "1 connections cut: stop timeout of 10s expired") {
			t.Errorf("Run: got %v, want an error that counts what was cut", err)
		}
		if err := <-failed; err == nil {
			t.Error("the request that hung: got an answer, want its connection cut")
		}
	})
}

func TestServesUntilTheCatalogIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{absent: time.Minute}
		l := start(t, r, 0, time.Second)
		if code, _, err := l.get("/"); code != 200 || err != nil {
			t.Errorf("while it can't register: got %d, %v, want 200", code, err)
		}
		time.Sleep(time.Minute + time.Second)
		if diff := cmp.Diff(r.events(), []string{"register"}); diff != "" {
			t.Errorf("a minute later (-got +want):\n%s", diff)
		}
		l.terminate()
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
}

func TestRegistrationHasEndedBeforeTheLeaveBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{absent: time.Minute}
		l := start(t, r, 0, time.Second)
		l.terminate()
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if diff := cmp.Diff(r.events(), []string{"give up registering", "mark leaving", "deregister"}); diff != "" {
			t.Errorf("events (-got +want):\n%s", diff)
		}
		if got := l.log.FilterMessageSnippet("not registered").Len(); got != 0 {
			t.Errorf("complaints: got %d, want none: it was told to stop", got)
		}
	})
}

func TestServesThoughTheCatalogRefusesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, &registry{refuse: errors.New("bad request")}, 0, time.Second)
		if code, _, err := l.get("/"); code != 200 || err != nil {
			t.Errorf("got %d, %v, want 200", code, err)
		}
		if got := l.log.FilterMessage("registration failed, serving unregistered").Len(); got != 1 {
			t.Errorf("complaints: got %d, want 1", got)
		}
		l.terminate()
		if err := <-l.result; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
}

func TestStopsServingThoughTheCatalogCannotBeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{broken: errors.New("no leader")}
		l := start(t, r, 0, time.Second)
		l.terminate()
		if err := <-l.result; err == nil || !strings.Contains(err.Error(), "serve: leave: no leader") {
			t.Errorf("Run: got %v, want the reason", err)
		}
		if _, _, err := l.get("/"); err == nil {
			t.Error("after the stop: got an answer, want a refused connection")
		}
	})
}

func TestAListenerThatFailsEndsTheRunInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{absent: time.Minute}
		l := start(t, r, 0, time.Second)
		began := time.Now()
		_ = l.listener.Close()
		if err := <-l.result; err == nil || !strings.Contains(err.Error(), "serve: accept") {
			t.Errorf("Run: got %v, want the listener's error", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Run: took %s to end, want no wait for the catalog", took)
		}
		if diff := cmp.Diff(r.events(), []string{"give up registering", "mark leaving", "deregister"}); diff != "" {
			t.Errorf("events (-got +want):\n%s", diff)
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	n, err := node.New("api0", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	good := serve.Config{Listener: memnet.Listen(), Node: n, StopTimeout: time.Second}
	for want, spoil := range map[string]func(*serve.Config){
		"no listener":  func(c *serve.Config) { c.Listener = nil },
		"no node":      func(c *serve.Config) { c.Node = nil },
		"linger -1s":   func(c *serve.Config) { c.Linger = -time.Second },
		"stop timeout": func(c *serve.Config) { c.StopTimeout = 0 },
	} {
		bad := good
		spoil(&bad)
		if _, err := serve.New(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %v, want an error with %q", err, want)
		}
	}
}

package load_test

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/services/client/internal/load"
)

func TestEveryRequestThatIsDueIsSentAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newAPI()
		c := inMemory(t, node)
		c.PostShare, c.FreshShare = 0.5, 0.5
		var dials atomic.Int64
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, addr)
		}

		got := run(t, c)

		if got.Requests != 500 || got.Failed != 0 || got.Versions["1.0"] != 500 || got.Instances["api0"] != 500 {
			t.Errorf("report: got %+v, want 500 successes by api0 of 1.0", got)
		}
		gets, posts := node.requests(http.MethodGet), node.requests(http.MethodPost)
		if gets+posts != 500 || gets < 150 || posts < 150 {
			t.Errorf("methods: got %d GET and %d POST, want about half of 500 each", gets, posts)
		}
		if n := dials.Load(); n < 150 || n > 350 {
			t.Errorf("connections: got %d, want one for about half of 500 requests", n)
		}
		if got.Seconds != 4.99 { // request 499 is due then, and answered at once
			t.Errorf("seconds: got %v, want 4.99", got.Seconds)
		}
	})
}

func TestKeptConnectionsAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, newAPI())
		var dials atomic.Int64
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, addr)
		}
		if got := run(t, c); got.Failed != 0 {
			t.Fatalf("failed: got %v, want none", got.Failures)
		}
		if got := dials.Load(); got != 1 {
			t.Errorf("connections for 500 requests, one after the other: got %d, want 1", got)
		}
	})
}

func TestAStallIsChargedForEveryRequestThatItKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newAPI()
		began := time.Now()
		node.before = func(http.ResponseWriter, *http.Request) bool {
			if at := time.Since(began); at >= 2*time.Second && at < 3*time.Second {
				time.Sleep(3*time.Second - at)
			}
			return false
		}
		c := inMemory(t, node)
		c.Duration = 10 * time.Second

		got := run(t, c)

		// 100 of the 1000 requests are due in the stall, and wait for what is
		// left of it: 1 s, 0.99 s, … A client that waits would send one of
		// them, and find a p99 near 0.
		if got.Requests != 1000 || got.Failed != 0 {
			t.Errorf("requests, failed: got %d, %d, want 1000, 0", got.Requests, got.Failed)
		}
		if got.P99 < 890 || got.P99 > 920 {
			t.Errorf("p99: got %v ms, want about 900", got.P99)
		}
		if got.Max < 990 || got.Max > 1010 {
			t.Errorf("max: got %v ms, want about 1000", got.Max)
		}
		if got.P50 > 1 {
			t.Errorf("p50: got %v ms, want about 0", got.P50)
		}
		if got := got.Series[3]; got.Second != 3 || got.Requests != 200 || got.P99 < 900 {
			t.Errorf("the second after the stall: got %+v, want the 100 requests of the stall and its own 100", got)
		}
	})
}

func TestEachFailureHasItsCause(t *testing.T) {
	hijack := func(t *testing.T, w http.ResponseWriter, then string) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if then != "" {
			_, _ = conn.Write([]byte(then))
		}
		_ = conn.Close()
	}
	put := func(key string, value any) func(map[string]any) {
		return func(a map[string]any) { a[key] = value }
	}
	for _, c := range []struct {
		name    string
		before  func(t *testing.T, w http.ResponseWriter, r *http.Request) bool
		distort func(map[string]any)
		method  string
		want    load.Cause
		detail  string
	}{
		{name: "server error", method: "GET", want: load.Status, detail: `503 Service Unavailable: "no server"`, before: func(_ *testing.T, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("no server"))
			return true
		}},
		{name: "redirect", method: "GET", want: load.Status, detail: "302 Found", before: func(_ *testing.T, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/other", http.StatusFound)
			return true
		}},
		{name: "connection that ends", method: "POST", want: load.Transport, detail: "on a new connection", before: func(t *testing.T, w http.ResponseWriter, _ *http.Request) bool {
			hijack(t, w, "")
			return true
		}},
		{name: "answer that is cut", method: "GET", want: load.Transport, detail: "broke off after 9 bytes", before: func(t *testing.T, w http.ResponseWriter, _ *http.Request) bool {
			hijack(t, w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":\"x\"")
			return true
		}},
		{name: "no answer in time", method: "GET", want: load.Timeout, detail: "no answer within 5s", before: func(_ *testing.T, _ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		}},
		{name: "no JSON", method: "GET", want: load.Body, detail: "not the JSON of an API node", before: func(_ *testing.T, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte("<html>"))
			return true
		}},
		{name: "endless answer", method: "GET", want: load.Body, detail: "longer than", before: func(_ *testing.T, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte(strings.Repeat(" ", 65<<10)))
			return true
		}},
		{name: "another's answer", method: "GET", want: load.Body, detail: "the answer to another request", distort: put("id", "x")},
		{name: "another version in the body", method: "GET", want: load.Body, detail: `version: header says "1.0", body "1.1"`, distort: put("version", "1.1")},
		{name: "another instance in the body", method: "GET", want: load.Body, detail: `instance: header says "api0", body "api1"`, distort: put("instance", "api1")},
		{name: "unprintable version", method: "GET", want: load.Body, detail: "printable", distort: put("version", "1.0\n")},
		{name: "body that was cut", method: "POST", want: load.Body, detail: "length of the body", distort: put("length", 0)},
		{name: "body that was changed", method: "POST", want: load.Body, detail: "SHA-256", distort: put("sha256", "00")},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := newAPI()
				node.distort = c.distort
				if c.before != nil {
					node.before = func(w http.ResponseWriter, r *http.Request) bool { return c.before(t, w, r) }
				}
				cfg := inMemory(t, node)
				cfg.Rate, cfg.Duration = 1, time.Second
				if c.method == "POST" {
					cfg.PostShare = 1
				}
				var seen failures
				cfg.OnFailure = seen.add

				got := run(t, cfg)

				if got.Requests != 1 || got.Failed != 1 || got.Failures[c.want] != 1 || len(got.Failures) != len(load.Causes) {
					t.Errorf("report: got %+v, want one failure by %s and 0 for the other causes", got, c.want)
				}
				if wantPost := uint64(cfg.PostShare); got.FailedPost != wantPost || got.FailedIdempotent != 1-wantPost {
					t.Errorf("failed POST, idempotent: got %d, %d, want %d, %d", got.FailedPost, got.FailedIdempotent, wantPost, 1-wantPost)
				}
				all := seen.all()
				if len(all) != 1 || all[0].Cause != c.want || all[0].Method != c.method || all[0].Target != "http://lb0/" || !strings.Contains(all[0].Detail, c.detail) {
					t.Errorf("told: got %+v, want one with %s %s and %q", all, c.method, c.want, c.detail)
				}
			})
		})
	}
}

func TestRefusedConnectionIsATransportFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, "http://lb0/")
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.UnknownNetworkError("refused")}
		}
		var seen failures
		c.OnFailure = seen.add
		got := run(t, c)
		if got.Failures[load.Transport] != 500 || got.Failed != 500 {
			t.Errorf("failures: got %v, want 500 by transport", got.Failures)
		}
		if d := seen.all()[0].Detail; !strings.Contains(d, "while connecting") {
			t.Errorf("detail: got %q, want it to say when", d)
		}
	})
}

func TestRequestBeyondMaxInFlightIsAFailureAndNotLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newAPI()
		node.before = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
		c := inMemory(t, node)
		c.MaxInFlight, c.Duration = 10, time.Second
		got := run(t, c)
		want := map[load.Cause]uint64{load.Overrun: 90, load.Timeout: 10, load.Status: 0, load.Transport: 0, load.Body: 0}
		if diff := cmp.Diff(got.Failures, want); diff != "" {
			t.Errorf("failures (-got +want):\n%s", diff)
		}
		if got.Requests != 100 {
			t.Errorf("requests: got %d, want all 100 that were due", got.Requests)
		}
		if got.P50 < 4900 {
			t.Errorf("p50: got %v ms, want that of the 10 that were sent, the timeout", got.P50)
		}
	})
}

func TestEndOfTheRunWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newAPI()
		node.before = func(http.ResponseWriter, *http.Request) bool { time.Sleep(3 * time.Second); return false }
		c := inMemory(t, node)
		c.Duration = 0
		l, err := load.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 995*time.Millisecond)
		defer cancel()
		began := time.Now()
		got, err := l.Run(ctx)
		if err != nil || got.Requests != 100 || got.Failed != 0 {
			t.Errorf("run: got %d requests, %d failed, %v, want 100, 0, nil", got.Requests, got.Failed, err)
		}
		if took := time.Since(began); took != 3990*time.Millisecond {
			t.Errorf("run: took %s, want until the answer to the last request", took)
		}
		if _, err := l.Run(ctx); err == nil {
			t.Error("second run: got no error, want one")
		}
	})
}

func TestFirstAnswerFromEachServerIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newAPI(), newAPI()
		two.instance, two.version = "api1", "1.1"
		var n atomic.Int64
		c := inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%2 == 0 {
				one.ServeHTTP(w, r)
			} else {
				two.ServeHTTP(w, r)
			}
		}))
		var mu sync.Mutex
		var got []load.Server
		c.OnServer = func(s load.Server) { mu.Lock(); got = append(got, s); mu.Unlock() }
		run(t, c)
		want := []load.Server{{Instance: "api1", Version: "1.1", Target: "http://lb0/"}, {Instance: "api0", Version: "1.0", Target: "http://lb0/"}}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("servers (-got +want):\n%s", diff)
		}
	})
}

func TestTargetsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, newAPI())
		second, err := url.Parse("http://lb1/?zone=b")
		if err != nil {
			t.Fatal(err)
		}
		c.Targets = append(c.Targets, second)
		var mu sync.Mutex
		hosts := make(map[string]int)
		dial := c.Dial
		c.FreshShare = 1
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			hosts[addr]++
			mu.Unlock()
			return dial(ctx, network, addr)
		}
		if got := run(t, c); got.Failed != 0 {
			t.Errorf("failures: got %v, want none", got.Failures)
		}
		if diff := cmp.Diff(hosts, map[string]int{"lb0:80": 250, "lb1:80": 250}); diff != "" {
			t.Errorf("connections by target (-got +want):\n%s", diff)
		}
	})
}

func TestSnapshotTellsTotalsAndTheLastWholeSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, newAPI())
		c.Duration = 3 * time.Second
		l, err := load.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Snapshot(); got.Requests != 0 || got.Elapsed != 0 {
			t.Errorf("before the run: got %+v, want nothing", got)
		}
		done := make(chan struct{})
		go func() { defer close(done); _, _ = l.Run(t.Context()) }()
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		got := l.Snapshot()
		if got.Requests != 251 || got.Failed != 0 || got.Last.Second != 1 || got.Last.Requests != 100 || got.Last.Versions["1.0"] != 100 {
			t.Errorf("after 2.5 s: got %+v, want 251 in all, and 100 in second 1", got)
		}
		<-done
	})
}

func TestEachWrongFieldIsNamed(t *testing.T) {
	secret := &url.URL{Scheme: "http", User: url.UserPassword("u", "hunter2"), Host: "lb0"}
	c := load.Config{
		Targets: []*url.URL{secret, {Scheme: "ftp", Host: "lb0"}, {Scheme: "http"}},
		Rate:    math.NaN(), PostShare: 1.5, FreshShare: -0.1, Duration: -1,
	}
	_, err := load.New(c)
	if err == nil {
		t.Fatal("New: got no error")
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error: got %q, which tells the password", err)
	}
	var got []string
	for _, bad := range c.Validate() {
		got = append(got, bad.Field)
	}
	slices.Sort(got)
	want := []string{"Duration", "FreshShare", "IdleTimeout", "MaxInFlight", "PostShare", "Rate", "Targets", "Targets", "Targets", "Timeout"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("fields (-got +want):\n%s", diff)
	}
}

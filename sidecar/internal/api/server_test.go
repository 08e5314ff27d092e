package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of a server that is well.
func options() Options {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "a_total", Help: "a"}))
	return Options{
		Address: "127.0.0.1:0", LoadBalancer: "lb<0>",
		State:   func() any { return map[string]any{"services": []string{}} },
		Ready:   func() (bool, string) { return true, "" },
		Alive:   func() error { return nil },
		Metrics: reg,
	}
}

// start runs a server until the test ends and gives its URL.
func start(t *testing.T, o Options) string {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(2 * stopTimeout):
			t.Error("Run has not ended")
		}
	})
	select {
	case <-s.Bound():
	case err := <-done:
		done <- nil
		t.Fatalf("Run: %v", err)
	}
	return "http://" + s.Addr().String()
}

type response struct {
	code   int
	header http.Header
	body   string
}

func request(t *testing.T, method, url string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) response {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}

func TestAnswers(t *testing.T) {
	well := start(t, options())
	sick := options()
	sick.Ready = func() (bool, string) { return false, "Consul has not answered" }
	sick.Alive = func() error { return errors.New("no pass for 30s") }
	sick.State = func() any { return nil }
	ill := start(t, sick)
	broken := options()
	broken.State = func() any { return func() {} }
	bad := start(t, broken)
	told := options()
	told.Summary = func() string { return "ready; 3 services" }
	tells := start(t, told)

	for _, c := range []struct {
		name, method, url string
		code              int
		kind, body        string
	}{
		{"healthz of one that is alive", "GET", well + "/healthz", 200, "application/json", `{"status":"ok"}` + "\n"},
		{"healthz of one that says how it does", "GET", tells + "/healthz", 200, "application/json", `{"status":"ok","state":"ready; 3 services"}` + "\n"},
		{"healthz of one that is stuck", "GET", ill + "/healthz", 503, "application/json", `{"status":"stuck","reason":"no pass for 30s"}` + "\n"},
		{"readyz of one that is ready", "GET", well + "/readyz", 200, "application/json", `{"ready":true}` + "\n"},
		{"readyz of one that is not", "GET", ill + "/readyz", 503, "application/json", `{"ready":false,"reason":"Consul has not answered"}` + "\n"},
		{"the state", "GET", well + "/api/v1/state", 200, "application/json", `{"services":[]}` + "\n"},
		{"the state for people", "GET", well + "/api/v1/state?pretty", 200, "application/json", "{\n  \"services\": []\n}\n"},
		{"no state yet", "GET", ill + "/api/v1/state", 503, "application/json", `{"error":"no state yet"}` + "\n"},
		{"a state that is no JSON", "GET", bad + "/api/v1/state", 500, "application/json", `{"error":"the answer cannot be encoded"}` + "\n"},
		{"the metrics", "GET", well + "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "# HELP a_total a\n# TYPE a_total counter\na_total 0\n"},
		{"only the head", "HEAD", well + "/healthz", 200, "application/json", ""},
		{"a method that writes", "POST", well + "/healthz", 405, "application/json", `{"error":"only GET and HEAD are allowed"}` + "\n"},
		{"a page that there is not", "GET", well + "/nothing", 404, "application/json", `{"error":"no such page"}` + "\n"},
		{"a page under one that there is", "GET", well + "/healthz/", 404, "application/json", `{"error":"no such page"}` + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := request(t, c.method, c.url)
			if got.code != c.code || got.header.Get("Content-Type") != c.kind || got.body != c.body {
				t.Errorf("%s %s:\n  got  %d %q %q\n  want %d %q %q", c.method, c.url,
					got.code, got.header.Get("Content-Type"), got.body, c.code, c.kind, c.body)
			}
			if got := got.header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control = %q, want no-store", got)
			}
		})
	}
	if got, want := request(t, "PUT", well+"/metrics").header.Get("Allow"), "GET, HEAD"; got != want {
		t.Errorf("Allow = %q, want %q", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"an address without a port": func(o *Options) { o.Address = "localhost" },
		"no state":                  func(o *Options) { o.State = nil },
		"no readiness":              func(o *Options) { o.Ready = nil },
		"no health":                 func(o *Options) { o.Alive = nil },
		"no metrics":                func(o *Options) { o.Metrics = nil },
	} {
		o := options()
		spoil(&o)
		if _, err := New(o); err == nil {
			t.Errorf("New with %s gave no error", name)
		}
	}
}

func TestRunSaysThatThePortIsTaken(t *testing.T) {
	o := options()
	o.Address = strings.TrimPrefix(start(t, o), "http://")
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	var op *net.OpError
	if !errors.As(err, &op) || !strings.Contains(err.Error(), o.Address) {
		t.Errorf("Run on a taken port: %v, want an error that names %s", err, o.Address)
	}
	if got := s.Addr(); got != nil {
		t.Errorf("Addr() = %v, want nil where nothing listens", got)
	}
}

// pipes is a listener whose connections are net.Pipes, for synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// serving runs a server on pipes; the result of Run comes on done.
func serving(ctx context.Context, t *testing.T, o Options) (p *pipes, done chan error) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, done = newPipes(), make(chan error, 1)
	go func() { done <- s.serve(ctx, p) }()
	return p, done
}

func TestAClientThatSendsNoHeaderIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p, done := serving(ctx, t, options())
		conn := p.dial()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n") // and never the end
		begun := time.Now()
		_, _ = io.ReadAll(conn)
		if got := time.Since(begun); got != headerTimeout {
			t.Errorf("closed after %v, want %v", got, headerTimeout)
		}
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestAHeaderWithoutEndIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p, done := serving(ctx, t, options())
		conn := p.dial()
		go fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*maxHeaderBytes))
		status, _ := bufio.NewReader(conn).ReadString('\n')
		if want := "HTTP/1.1 431 Request Header Fields Too Large\r\n"; status != want {
			t.Errorf("status %q, want %q", status, want)
		}
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestARequestUnderWayIsFinishedBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.State = func() any { time.Sleep(stopTimeout / 2); return map[string]bool{"whole": true} }
		ctx, cancel := context.WithCancel(t.Context())
		p, done := serving(ctx, t, o)
		conn := p.dial()
		fmt.Fprint(conn, "GET /api/v1/state HTTP/1.1\r\nHost: localhost\r\n\r\n")
		synctest.Wait()
		cancel()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got map[string]bool
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || !got["whole"] {
			t.Errorf("the body is %v, %v, want all of it", got, err)
		}
		conn.Close()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestARequestThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		o := options()
		o.State = func() any { <-release; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		p, done := serving(ctx, t, o)
		conn := p.dial()
		fmt.Fprint(conn, "GET /api/v1/state HTTP/1.1\r\nHost: localhost\r\n\r\n")
		synctest.Wait()
		begun := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := time.Since(begun); got != stopTimeout {
			t.Errorf("ended after %v, want %v", got, stopTimeout)
		}
		if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
			t.Errorf("the client got %q, %v, want the end of the connection", rest, err)
		}
		close(release)
		conn.Close()
	})
}

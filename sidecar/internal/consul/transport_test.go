package consul

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answering accepts connections and has each answered by a script, which gets its
// number. A script that returns closes its connection.
func answering(t *testing.T, script func(number int, in *bufio.Reader, out net.Conn)) (tr *plainTransport, dialed *atomic.Int64) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				script(n, bufio.NewReader(c), c)
			}()
		}
	}()
	dialed = new(atomic.Int64)
	tr = &plainTransport{dial: func(ctx context.Context) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr, dialed
}

// request reads a whole request without a body.
func request(in *bufio.Reader) error {
	req, err := http.ReadRequest(in)
	if err == nil {
		err = req.Body.Close()
	}
	return err
}

func get(ctx context.Context, tr *plainTransport) (body string, err error) {
	return getWithin(ctx, tr, bounds{limit: time.Minute})
}

func getWithin(ctx context.Context, tr *plainTransport, within bounds) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consul.test/v1", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := tr.query(req, within)
	if err != nil {
		return "", err
	}
	all, err := io.ReadAll(resp.Body)
	return string(all), errors.Join(err, resp.Body.Close())
}

const goodAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"

func TestPlainTransport_KeptConnection_ServesTheNextRequest(t *testing.T) {
	tr, dialed := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
		for request(in) == nil {
			_, _ = io.WriteString(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n")
		}
	})
	for range 3 {
		if body, err := get(t.Context(), tr); err != nil || body != "good" {
			t.Fatalf("got %q, %v", body, err)
		}
	}
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// What a kept connection loses before the answer began is sent again, on a new
// connection; nothing else is.
func TestPlainTransport_ConnectionLost_KeptOneIsRepeatedOnANewOne(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(number int, in *bufio.Reader, out net.Conn)
		gets   int // the last one counts
		dialed int64
		body   string // "": an error
	}{
		{"a new one, without an answer", func(_ int, in *bufio.Reader, _ net.Conn) { _ = request(in) }, 1, 1, ""},
		{"a kept one, before the answer", func(_ int, in *bufio.Reader, out net.Conn) {
			if request(in) == nil {
				_, _ = io.WriteString(out, goodAnswer)
				_ = request(in)
			}
		}, 2, 2, "good"},
		{"a kept one, and the new one too", func(n int, in *bufio.Reader, out net.Conn) {
			if request(in) == nil && n == 0 {
				_, _ = io.WriteString(out, goodAnswer)
				_ = request(in)
			}
		}, 2, 2, ""},
		{"a kept one, within the answer", func(n int, in *bufio.Reader, out net.Conn) {
			if request(in) == nil {
				_, _ = io.WriteString(out, goodAnswer)
			}
			if request(in) == nil && n == 0 {
				_, _ = io.WriteString(out, goodAnswer[:20])
			}
		}, 2, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, dialed := answering(t, c.script)
			var body string
			var err error
			for range c.gets {
				body, err = get(t.Context(), tr)
			}
			if body != c.body || (err == nil) != (c.body != "") {
				t.Errorf("got %q, %v; want %q", body, err, c.body)
			}
			if n := dialed.Load(); n != c.dialed {
				t.Errorf("%d connections, want %d", n, c.dialed)
			}
		})
	}
}

func TestPlainTransport_ConnectionThatHasMoreOrEnds_IsNotKept(t *testing.T) {
	for _, c := range []struct {
		name, header string
		read         int // bytes
	}{{"not read to its end", "", 2}, {"the last answer", "Connection: close\r\n", 5}} {
		t.Run(c.name, func(t *testing.T) {
			tr, _ := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
				for request(in) == nil {
					_, _ = io.WriteString(out, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"+c.header+"\r\ngood")
				}
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://consul.test/v1", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.query(req, bounds{limit: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, resp.Body, int64(c.read)); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if err := resp.Body.Close(); err != nil || len(tr.idle) != 0 {
				t.Errorf("%d connections kept (%v), want none", len(tr.idle), err)
			}
		})
	}
}

func TestPlainTransport_ContextEnds_SoDoesTheQuery(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tr, _ := answering(t, func(_ int, in *bufio.Reader, _ net.Conn) {
		if request(in) == nil {
			cancel()
			_ = request(in) // it ends with the connection
		}
	})
	if body, err := get(ctx, tr); err == nil {
		t.Errorf("got %q, want an error", body)
	}
	if len(tr.idle) != 0 {
		t.Error("connection kept")
	}
}

// One that takes too long is given up, and not sent again on another connection: the
// time is over.
func TestPlainTransport_AnswerTakesTooLong_IsGivenUp(t *testing.T) {
	for _, c := range []struct{ name, begins string }{
		{"none comes", ""}, {"its headers do not end", goodAnswer[:20]}, {"its body does not end", goodAnswer[:len(goodAnswer)-1]},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, dialed := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
				if request(in) == nil {
					_, _ = io.WriteString(out, goodAnswer)
				}
				if request(in) == nil {
					_, _ = io.WriteString(out, c.begins)
					_ = request(in) // it ends with the connection
				}
			})
			if _, err := get(t.Context(), tr); err != nil {
				t.Fatal(err)
			}
			within := bounds{limit: 50 * time.Millisecond}
			if body, err := getWithin(t.Context(), tr, within); err == nil || err.Error() != within.late().Error() {
				t.Errorf("got %q, %v; want the error %v", body, err, within.late())
			}
			if n := dialed.Load(); n != 1 || len(tr.idle) != 0 {
				t.Errorf("%d connections, %d kept; want 1, and not kept", n, len(tr.idle))
			}
		})
	}
}

// A connection that is younger than the index does not carry it, whether it was kept or
// is made for the query.
func TestPlainTransport_YoungerConnection_IsNotUsed(t *testing.T) {
	var asked atomic.Int64
	tr, _ := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
		for request(in) == nil {
			asked.Add(1)
			_, _ = io.WriteString(out, goodAnswer)
		}
	})
	plain := tr.dial
	tr.dial = func(ctx context.Context) (net.Conn, error) {
		return dated(func(ctx context.Context, _, _ string) (net.Conn, error) { return plain(ctx) })(ctx, "", "")
	}
	before := time.Now().Add(-time.Second)
	young := bounds{limit: time.Minute, asOf: before}
	if body, err := getWithin(t.Context(), tr, young); !errors.Is(err, errYounger) {
		t.Errorf("made for the query: got %q, %v; want %v", body, err, errYounger)
	}
	if _, err := get(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	if body, err := getWithin(t.Context(), tr, young); !errors.Is(err, errYounger) {
		t.Errorf("kept: got %q, %v; want %v", body, err, errYounger)
	}
	if n := asked.Load(); n != 1 || len(tr.idle) != 0 {
		t.Errorf("%d requests, %d connections kept; want 1 and none", n, len(tr.idle))
	}
}

func TestPlainTransport_HeadersTooLong_AreAnError(t *testing.T) {
	tr, _ := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
		if request(in) == nil {
			_, _ = io.WriteString(out, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", maxHead)+"\r\n\r\n")
		}
	})
	if _, err := get(t.Context(), tr); !errors.Is(err, errLongHead) {
		t.Errorf("got %v, want %v", err, errLongHead)
	}
}

func TestPlainTransport_Compressed_IsAskedForAndRead(t *testing.T) {
	tr, _ := answering(t, nil)
	tr.gunzips = true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = io.WriteString(zip, "good")
		_ = zip.Close()
	}))
	defer s.Close()
	tr.dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
	for range 2 {
		if body, err := get(t.Context(), tr); err != nil || body != "good" {
			t.Errorf("got %q, %v", body, err)
		}
	}
	if len(tr.idle) != 1 {
		t.Errorf("%d connections kept, want 1", len(tr.idle))
	}
}

func TestPlainTransport_IdleForLong_IsClosed(t *testing.T) {
	tr := &plainTransport{}
	begin := time.Now()
	var closed [2]net.Conn
	for i := range closed {
		near, far := net.Pipe()
		closed[i] = far
		tr.keep(&keptConn{Conn: near}, begin.Add(time.Duration(i)*time.Second))
	}
	young := tr.take(begin.Add(idleTimeout))
	if young == nil || len(tr.idle) != 0 {
		t.Fatalf("got %v and %d more, want the one that was used last and no more", young, len(tr.idle))
	}
	if _, err := closed[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the old connection: %v, want it closed", err)
	}
	_ = young.Close()
}

// A query that waits takes the goroutine that asks, and no more.
func TestPlainTransport_ThatWaits_HasOneGoroutine(t *testing.T) {
	const queries = 20
	here, answer := make(chan struct{}, queries), make(chan struct{})
	tr, _ := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
		if request(in) == nil {
			here <- struct{}{}
			<-answer
			_, _ = io.WriteString(out, goodAnswer)
		}
	})
	done := make(chan error, queries)
	for range queries {
		go func() {
			_, err := get(t.Context(), tr)
			done <- err
		}()
	}
	for range queries {
		<-here
	}
	// One whose request was just read may not wait yet.
	var all string
	for all = stacks(); strings.Contains(all, "consul.aside("); all = stacks() {
		runtime.Gosched()
	}
	of := 0
	for one := range strings.SplitSeq(all, "\n\n") {
		if strings.Contains(one, "consul.(*plainTransport)") || strings.Contains(one, "net/http.(*persistConn)") {
			of++
		}
	}
	if of != queries {
		t.Errorf("%d goroutines for %d queries", of, queries)
	}
	close(answer)
	for range queries {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func stacks() string {
	all := make([]byte, 4<<20)
	return string(all[:runtime.Stack(all, true)])
}

// An interim answer is not the answer, and leaves nothing on the connection that the
// next request, of another service, would take for its own.
func TestPlainTransport_InterimAnswer_IsSkipped(t *testing.T) {
	tr, _ := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
		for request(in) == nil {
			_, _ = io.WriteString(out, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+goodAnswer)
		}
	})
	for range 2 {
		if body, err := get(t.Context(), tr); err != nil || body != "good" {
			t.Errorf("got %q, %v", body, err)
		}
	}
}

func TestPlainTransport_MoreThanTheAnswer_IsNotKept(t *testing.T) {
	for _, status := range []string{"404 Not Found", "101 Switching Protocols"} {
		tr, _ := answering(t, func(_ int, in *bufio.Reader, out net.Conn) {
			for request(in) == nil {
				_, _ = io.WriteString(out, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n"+goodAnswer)
			}
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://consul.test/v1", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := tr.query(req, bounds{limit: time.Minute}); err == nil {
			_ = resp.Body.Close()
		}
		if len(tr.idle) != 0 {
			t.Errorf("%s: connection kept", status)
		}
	}
}

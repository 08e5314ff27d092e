package load_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/services/client/internal/load"
)

type connectionKey struct{}

// closesOnSecondRequest serves a node that answers the first request of each
// connection and closes the connection upon the second, without an answer: a
// server that drops its kept connections under its clients.
func closesOnSecondRequest(t *testing.T, node *api) *httptest.Server {
	t.Helper()
	node.before = func(w http.ResponseWriter, r *http.Request) bool {
		count, _ := r.Context().Value(connectionKey{}).(*int)
		*count++ // a connection has one request at a time
		if *count == 1 {
			return false
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return true
		}
		_ = conn.Close()
		return true
	}
	server := httptest.NewUnstartedServer(node)
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, new(int))
	}
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func TestRequestLostOnAKeptConnectionIsAFailureAndNotSentAgain(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			node := newAPI()
			c := config(t, closesOnSecondRequest(t, node).URL)
			c.Rate, c.Duration = 200, 500*time.Millisecond
			if method == http.MethodPost {
				c.PostShare = 1
			}
			var seen failures
			c.OnFailure = seen.add

			got := run(t, c)

			if got.Requests != 100 || got.Failures[load.Transport] < 30 || got.Failed != got.Failures[load.Transport] {
				t.Errorf("report: got %d requests and %v, want 100, of which about half failed by transport", got.Requests, got.Failures)
			}
			if n := node.requests(method); n != 100 || node.repeated() != 0 {
				t.Errorf("server: got %d requests, %d of them more than once, want 100 and 0", n, node.repeated())
			}
			if all := seen.all(); len(all) == 0 || !strings.Contains(all[0].Detail, "on a kept connection") {
				t.Errorf("told: got %+v, want failures on kept connections", all)
			}
		})
	}
}

// The trap that the test above is about: if this one fails, net/http no longer
// repeats requests unasked, and load.send may be simpler.
func TestPlainTransportHidesRequestsThatWereLost(t *testing.T) {
	node := newAPI()
	server := closesOnSecondRequest(t, node)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, id := range []string{"a", "b"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/?id="+id, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatalf("request %s: got %v, want it sent again without a word", id, err)
		}
		buffer := make([]byte, 1<<10)
		for err == nil { // to the end, so that the connection is kept
			_, err = response.Body.Read(buffer)
		}
		_ = response.Body.Close()
	}
	if got := node.repeated(); got != 1 {
		t.Errorf("requests that the server got more than once: got %d, want 1", got)
	}
}

func TestGetHasNoBodyOnTheWire(t *testing.T) {
	seen := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r }))
	defer server.Close()
	c := config(t, server.URL)
	c.Rate, c.Duration = 1, time.Second
	run(t, c)
	r := <-seen
	if r.ContentLength != 0 || len(r.TransferEncoding) != 0 || r.Header.Get("Content-Length") != "" {
		t.Errorf("GET: got length %d, transfer encoding %v, headers %v, want no body", r.ContentLength, r.TransferEncoding, r.Header)
	}
}

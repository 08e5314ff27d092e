package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// A hundred connections that last, WebSockets and server-sent events, are on a server that
// drains. None ends before the drain's deadline; then all of them end, and every client
// comes back to the other server (issue 17, point 7).
func TestDrain_LongLivedConnections_EndAtTheDeadlineAndComeBackElsewhere(t *testing.T) {
	t.Parallel()
	const drain, kill = 3 * time.Second, time.Second
	ended := drainLongLived(t, fmt.Sprintf("    drain_timeout: %s\n    session_kill_after: %s\n", drain, kill))
	// HAProxy counts a server's time in whole seconds.
	if first := ended[0]; first < drain+kill-1500*time.Millisecond {
		t.Errorf("the first connection ended after %s, want %s", first, drain+kill)
	}
	if took := ended[len(ended)-1] - ended[0]; took > 2*time.Second {
		t.Errorf("it took %s from the first end to the last, want them at once", took)
	}
}

// The same with a time over which they end: some each second, and none waits for the others.
func TestDrain_LongLivedConnectionsAndSpread_EndAPartEachSecond(t *testing.T) {
	t.Parallel()
	const drain, kill, spread = 2 * time.Second, time.Second, 10 * time.Second
	ended := drainLongLived(t, fmt.Sprintf("    drain_timeout: %s\n    session_kill_after: %s\n    session_kill_spread: %s\n", drain, kill, spread))
	if first := ended[0]; first < drain+kill-1500*time.Millisecond {
		t.Errorf("the first connection ended after %s, want %s", first, drain+kill)
	}
	// Ten each second, and twice that where a second is counted late.
	counts := bySecond(ended)
	if most := slices.Max(counts); most > len(ended)/4 {
		t.Errorf("%d connections ended in one second, want ten: %v", most, counts)
	}
	if took := ended[len(ended)-1] - ended[0]; took < spread/2 {
		t.Errorf("it took %s from the first end to the last, want %s", took, spread)
	}
}

// drainLongLived drains a server with a hundred connections, and gives when each has ended
// since the drain began, in order.
func drainLongLived(t *testing.T, settings string) []time.Duration {
	t.Helper()
	const count = 100
	w := worldOf(t, lab.Service{Name: "live", Extra: settings + "    check: {path: \"\"}\n"})
	w.must(w.lb.Start(w.ctx))
	old, other := serveLongLived(t, "old"), serveLongLived(t, "other")
	w.registerAt(old, "live", "old", nil)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "live", "old"))
	front := strings.TrimSuffix(strings.TrimPrefix(w.lb.URL("live"), "http://"), "/")
	connections := make([]*longLived, count)
	for i := range connections {
		var err error
		connections[i], err = dialLongLived(w.ctx, front, i%2 == 0)
		w.must(err)
		if connections[i].node != "old" {
			t.Fatalf("connection %d is on %q", i, connections[i].node)
		}
	}
	w.registerAt(other, "live", "other", nil)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "live", "old", "other"))

	began := time.Now()
	w.registerAt(old, "live", "old", map[string]string{"pointsman-drain": began.UTC().Format(time.RFC3339)})
	ended, errs := make([]time.Duration, count), make([]error, count)
	var all sync.WaitGroup
	for i, c := range connections {
		all.Go(func() {
			c.awaitEnd()
			ended[i] = time.Since(began)
			again, err := dialLongLived(w.ctx, front, i%2 == 0)
			if err == nil && again.node != "other" {
				err = fmt.Errorf("it came back to %q", again.node)
			}
			errs[i] = err
		})
	}
	w.must(w.lb.Drained(w.ctx, "live", "old", time.Minute))
	drained := time.Since(began)
	all.Wait()
	w.must(errors.Join(errs...))
	slices.Sort(ended)
	t.Logf("ended from %s to %s, by second %v; drained after %s", ended[0].Round(time.Millisecond), ended[count-1].Round(time.Millisecond), bySecond(ended), drained.Round(time.Millisecond))
	if got := w.state().Reloads.Succeeded; got != 0 {
		t.Errorf("got %d reloads, want none", got)
	}
	return ended
}

// bySecond counts times by the second they are in.
func bySecond(times []time.Duration) (counts []int) {
	for _, at := range times {
		for len(counts) <= int(at/time.Second) {
			counts = append(counts, 0)
		}
		counts[at/time.Second]++
	}
	return counts
}

// serveLongLived answers with a WebSocket, or a stream of events, that lasts until the
// client ends it. The header X-Node has its name.
func serveLongLived(t *testing.T, name string) net.Addr {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") == "" {
			out.Header().Set("Content-Type", "text/event-stream")
			out.Header().Set("X-Node", name)
			_, _ = io.WriteString(out, "data: hello\n\n")
			_ = http.NewResponseController(out).Flush()
			<-req.Context().Done()
			return
		}
		conn, in, err := http.NewResponseController(out).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Node: "+name+"\r\nSec-WebSocket-Accept: "+accept+"\r\n\r\n")
		_, _ = io.Copy(io.Discard, in)
	})}
	go func() { _ = server.Serve(listener) }() // until the test ends
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr()
}

// longLived is a client's connection through the load balancer.
type longLived struct {
	conn net.Conn
	rest io.Reader // what comes after the head of the answer
	node string
}

func dialLongLived(ctx context.Context, address string, upgrade bool) (*longLived, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	request := "GET / HTTP/1.1\r\nHost: live\r\nAccept: text/event-stream\r\n\r\n"
	if upgrade {
		request = "GET / HTTP/1.1\r\nHost: live\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // the connection is closed
	if err != nil {
		return nil, err
	}
	c := &longLived{conn: conn, rest: in, node: resp.Header.Get("X-Node")}
	switch {
	case upgrade && resp.StatusCode == http.StatusSwitchingProtocols:
	case !upgrade && resp.StatusCode == http.StatusOK:
		c.rest = resp.Body
	default:
		return nil, fmt.Errorf("got %s", resp.Status)
	}
	return c, nil
}

// awaitEnd reads until the connection ends, in whatever way.
func (c *longLived) awaitEnd() {
	_, _ = io.Copy(io.Discard, c.rest)
	_ = c.conn.Close()
}

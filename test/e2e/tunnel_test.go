package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// A WebSocket, as far as HAProxy sees one, works on while its server drains,
// until the drain's deadline; then it is cut, and a node that waits to leave hears
// that no session is left.
func TestATunnelLastsUntilTheDrainsDeadlineAndIsCutThen(t *testing.T) {
	t.Parallel()
	const drain, cut = 3 * time.Second, time.Second
	w := worldOf(t, lab.Service{
		Name: "ws", Extra: fmt.Sprintf("    drain_timeout: %s\n    session_kill_after: %s\n    check: {path: \"\"}\n", drain, cut),
	})
	w.must(w.lb.Start(w.ctx))
	server := lab.Listen(t, serveTunnel)
	w.registerAt(server, "ws", "ws0", nil)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "ws", "ws0"))

	tunnel := openTunnel(t, strings.TrimSuffix(strings.TrimPrefix(w.lb.URL("ws"), "http://"), "/"))
	if err := tunnel.echo(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.registerAt(server, "ws", "ws0", map[string]string{"pointsman-drain": began.UTC().Format(time.RFC3339)})
	drained := make(chan error, 1)
	go func() { drained <- w.lb.Drained(w.ctx, "ws", "ws0", 20*time.Second) }()

	err := tunnel.echo()
	for ; err == nil; err = tunnel.echo() {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the tunnel is still there")
		}
	}
	lasted := time.Since(began)
	// HAProxy counts a server's time in whole seconds.
	if lasted < drain+cut-1500*time.Millisecond {
		t.Errorf("the tunnel lasted for %s, want %s", lasted, drain+cut)
	}
	if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the tunnel ended with %v, want it to be closed", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	t.Logf("the tunnel lasted for %s, the drain was acknowledged %s later", lasted.Round(time.Millisecond), (time.Since(began) - lasted).Round(time.Millisecond))
	if got := w.state().Reloads.Succeeded; got != 0 {
		t.Errorf("got %d reloads, want none", got)
	}
}

// The key and its answer are those of RFC 6455, section 1.3; HAProxy looks at
// them.
const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// serveTunnel turns a connection into a tunnel that echoes.
func serveTunnel(conn net.Conn) {
	buffered := bufio.NewReader(conn)
	if _, err := http.ReadRequest(buffered); err != nil {
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+accept+"\r\n\r\n"); err != nil {
		return
	}
	_, _ = io.Copy(conn, buffered) // until either side ends
}

type tunnel struct {
	conn net.Conn
	in   *bufio.Reader
}

func openTunnel(t *testing.T, address string) tunnel {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: ws\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // there is none: the connection is a tunnel now
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: got %v, %v", resp, err)
	}
	return tunnel{conn, in}
}

// echo sends a line through the tunnel and waits for it.
func (u tunnel) echo() error {
	if err := u.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(u.conn, "hello\n"); err != nil {
		return err
	}
	got, err := u.in.ReadString('\n')
	if err == nil && got != "hello\n" {
		err = fmt.Errorf("got %q back", got)
	}
	return err
}

package api

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// dial opens a connection from a loopback address.
func dial(t *testing.T, from, to string) net.Conn {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// isServed reports whether a connection is answered, and not closed.
func isServed(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") // a closed one is seen below
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	return err == nil && strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200")
}

func TestConnections_BeyondTheBounds_AreClosed(t *testing.T) {
	var log strings.Builder
	o := options()
	o.MaxConnections, o.MaxPerAddress = 5, 3
	o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})
	at := strings.TrimPrefix(start(t, o), "http://")
	var open []net.Conn
	for _, c := range []struct {
		from string
		want bool
	}{
		{"127.0.0.2", true},
		{"127.0.0.2", true},
		{"127.0.0.2", true},
		{"127.0.0.2", false}, // the fourth of one address
		{"127.0.0.3", true},
		{"127.0.0.4", true},
		{"127.0.0.5", false}, // the sixth of all
	} {
		conn := dial(t, c.from, at)
		if got := isServed(t, conn); got != c.want {
			t.Errorf("from %s beside %d: served %v, want %v", c.from, len(open), got, c.want)
		}
		if c.want {
			open = append(open, conn)
		}
	}
	// One that goes makes room for another.
	_ = open[0].Close()
	until(t, "there is room", func() bool { return isServed(t, dial(t, "127.0.0.5", at)) })
	if got := strings.Count(log.String(), "API connections refused"); got != 1 {
		t.Errorf("refusals are logged %d times, want once:\n%s", got, log.String())
	}
}

func TestConnections_ThatSayNothing_Count(t *testing.T) {
	o := options()
	o.MaxPerAddress = 2
	at := strings.TrimPrefix(start(t, o), "http://")
	dial(t, "127.0.0.2", at)
	dial(t, "127.0.0.2", at)
	until(t, "silent ones count", func() bool { return !isServed(t, dial(t, "127.0.0.2", at)) })
	if got := request(t, http.MethodGet, "http://"+at+"/healthz"); got.code != http.StatusOK {
		t.Errorf("another address: got %d, want 200", got.code)
	}
}

func TestClientOf_IPv6_IsANetwork(t *testing.T) {
	of := func(ip string) string { return clientOf(&net.TCPAddr{IP: net.ParseIP(ip), Port: 1}).String() }
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
	} {
		if got := of(c.a) == of(c.b); got != c.same {
			t.Errorf("%s and %s: the same %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

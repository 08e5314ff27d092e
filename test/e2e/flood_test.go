package e2e

import (
	"context"
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

// flood opens connections from one address, each of which sends a request and
// stays until the test ends. It returns how many the sidecar has not closed.
func (w *world) flood(from string, count int, request string) (open func() int) {
	w.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Second}
	at := strings.TrimPrefix(w.lb.StatusURL(), "http://")
	var conns []net.Conn
	w.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for range count {
		c, err := dialer.DialContext(w.ctx, "tcp", at)
		if err != nil {
			break // the queue of a listener that accepts no more is full
		}
		conns = append(conns, c)
		_, _ = io.WriteString(c, request) // a closed one counts as closed
	}
	return func() (open int) {
		buf := make([]byte, 4096)
		for _, c := range conns {
			if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				continue
			}
			var err error
			for err == nil {
				_, err = c.Read(buf)
			}
			if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() {
				open++
			}
		}
		return open
	}
}

// state over the API, from an address of this machine.
func (w *world) answersTo(from, token string) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.lb.StatusURL()+"/api/v1/state", http.NoBody)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// A client that reaches the API must not blind the sidecar by connections (issue 14,
// point 2).
func TestAPI_FloodedByConnections_NewNodeIsRouted(t *testing.T) {
	t.Parallel()
	const token = "of-the-api"
	long := "GET /api/v1/drain/api/old0?wait=10m HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for name, c := range map[string]struct {
		token, request string
		stay           int // of the connections, at most
	}{
		"long polls":            {"", long, 600},
		"connections after 401": {token, long, 0},
		"silent connections":    {"", "", 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
			w.lb.SetOpenFiles(1024)
			if c.token != "" {
				w.lb.SetEnviron("POINTSMAN_API_TOKEN=" + c.token)
			}
			w.must(w.lb.StartSidecar())
			w.must(w.lb.StartHAProxy(w.ctx))
			w.nodes = w.startNodes("1.0", "old", 1)
			w.must(w.takes(w.nodes[0]))

			open := w.flood("127.0.0.2", 1200, c.request)
			w.must(w.takes(w.startNodes("1.0", "new", 1)[0]))
			w.must(lab.Until(w.ctx, 5*time.Second, "the others are closed", func() error {
				if n := open(); n > c.stay {
					return fmt.Errorf("%d connections are open, want %d at most", n, c.stay)
				}
				return nil
			}))
			if err := w.answersTo("127.0.0.3", c.token); err != nil {
				t.Errorf("the API, asked from another address: %v", err)
			}
			// Their file is written, too.
			w.must(lab.Until(w.ctx, 10*time.Second, "haproxy.cfg has both", func() error {
				servers, err := w.lb.FileServers("api_nodes")
				up := 0
				for _, s := range servers {
					if s.Up {
						up++
					}
				}
				if err == nil && up != 2 {
					err = fmt.Errorf("%+v", servers)
				}
				return err
			}))
		})
	}
}

// takes waits until HAProxy itself says that a node takes traffic.
func (w *world) takes(n *lab.Node) error {
	return lab.Until(w.ctx, 10*time.Second, "HAProxy has "+n.Name+" up", func() error {
		servers, err := w.lb.Servers(w.ctx, "api_nodes")
		for _, s := range servers {
			if s.Addr == n.Addr() && s.Up {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("%+v", servers))
	})
}

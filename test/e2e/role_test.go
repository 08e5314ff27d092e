package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// One Consul service has a backend for its primary and one for its replicas, as
// Patroni tags them. When the roles change under load, the old primary is taken out
// although it is the only server and nothing has failed, and no connection that
// begins after that reaches it (issue 13, section 4).
func TestRole_PrimaryMovesUnderLoad_OldPrimaryGetsNoNewConnection(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	const settings = "    mode: tcp\n    drain_timeout: 30s\n"
	w.newBalancer(
		lab.Service{Name: "pg", Backend: "pg-primary", Extra: settings + "    tags: [primary]\n    close_on_role_change: true\n"},
		lab.Service{Name: "pg", Backend: "pg-replica", Extra: settings + "    tags: [replica]\n"},
	)
	w.must(w.lb.Start(w.ctx))
	at := map[string]*net.TCPAddr{"a": greeter(t, "a"), "b": greeter(t, "b")}
	register := func(name, role string) {
		t.Helper()
		w.registerAt(at[name], "pg", "pg-"+name, nil, role)
	}
	serves := func(backend, name string) error {
		return lab.Until(w.ctx, 20*time.Second, backend+" has "+name+" only", func() error {
			servers, err := w.lb.Servers(w.ctx, backend)
			up := slices.DeleteFunc(servers, func(s lab.Server) bool { return !s.Up })
			if len(up) != 1 || up[0].Addr != at[name].String() {
				err = errors.Join(err, fmt.Errorf("%+v", up))
			}
			return err
		})
	}
	register("a", "primary")
	register("b", "replica")
	w.must(serves("pg-primary", "a"))
	w.must(serves("pg-replica", "b"))
	primary, replica := w.lb.Services()[0].Port, w.lb.Services()[1].Port
	onPrimary, onReplica := greet(t, primary), greet(t, replica)
	if onPrimary.name != "a" || onReplica.name != "b" {
		t.Fatalf("got the primary %q and the replica %q, want a and b", onPrimary.name, onReplica.name)
	}
	reached := connecting(t, primary)

	register("a", "replica")
	w.must(lab.Until(w.ctx, 5*time.Second, "the old primary is out", func() error {
		servers, err := w.lb.Servers(w.ctx, "pg-primary")
		for _, s := range servers {
			if s.Up {
				err = errors.Join(err, fmt.Errorf("%+v", s))
			}
		}
		return err
	}))
	before := reached("a")
	out := time.Now()
	w.must(lab.Until(w.ctx, 5*time.Second, "its session is closed", onPrimary.ended))
	register("b", "primary")
	w.must(serves("pg-primary", "b"))
	w.must(serves("pg-replica", "a"))
	if err := onReplica.echo(); err != nil {
		t.Errorf("the session on the replica that was promoted: %v, want it to go on", err)
	}
	w.must(lab.Until(w.ctx, 5*time.Second, "connections reach the new primary", func() error {
		if reached("b") < 10 {
			return fmt.Errorf("%d", reached("b"))
		}
		return nil
	}))
	// Those that had begun may still be counted, one for each who connects.
	if after := reached("a") - before; before == 0 || after > connectors {
		t.Errorf("%d connections reached the old primary before it was out and %d in the %s after it, want none", before, after, time.Since(out))
	}
	if got := w.state().Reloads.Succeeded; got != 0 {
		t.Errorf("got %d reloads, want none", got)
	}
}

// greeter answers each line with its name.
func greeter(t *testing.T, name string) *net.TCPAddr {
	t.Helper()
	return lab.Listen(t, func(conn net.Conn) {
		for in := bufio.NewScanner(conn); in.Scan(); {
			if _, err := io.WriteString(conn, name+"\n"); err != nil {
				return
			}
		}
	})
}

// greeted is a connection to a greeter.
type greeted struct {
	tunnel
	name string
}

func dialGreeter(t *testing.T, port int) (g greeted, err error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return g, err
	}
	g.tunnel = tunnel{conn, bufio.NewReader(conn)}
	if g.name, err = g.ask(); err != nil {
		_ = conn.Close()
	}
	return g, err
}

func greet(t *testing.T, port int) greeted {
	t.Helper()
	g, err := dialGreeter(t, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.conn.Close() })
	return g
}

func (g greeted) ask() (string, error) {
	if err := g.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(g.conn, "who\n"); err != nil {
		return "", err
	}
	line, err := g.in.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (g greeted) echo() error { _, err := g.ask(); return err }

// ended returns an error as long as the connection goes on.
func (g greeted) ended() error {
	if _, err := g.ask(); err == nil {
		return errors.New("it goes on")
	}
	return nil
}

const connectors = 4

// connecting connects to a port again and again until the test ends, and gives how
// many connections have reached whom.
func connecting(t *testing.T, port int) (reached func(name string) int64) {
	t.Helper()
	count := map[string]*atomic.Int64{"a": {}, "b": {}}
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range connectors {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if g, err := dialGreeter(t, port); err == nil {
					count[g.name].Add(1)
					_ = g.conn.Close()
				}
			}
		})
	}
	t.Cleanup(func() { close(stop); all.Wait() })
	return func(name string) int64 { return count[name].Load() }
}

package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// occupied is a port that another program listens on until free is called.
func occupied(t *testing.T) (port int, free func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port, func() { _ = l.Close() }
}

// leftOut waits until exactly these services are left out, whose error has the
// words.
func (w *world) leftOut(limit time.Duration, words string, services ...string) {
	w.Helper()
	w.must(lab.Until(w.ctx, limit, fmt.Sprintf("%q are left out", services), func() error {
		left := w.state().File.LeftOut
		ok := len(left) == len(services)
		for i, s := range services {
			ok = ok && left[i].Service == s && strings.Contains(left[i].Error, words)
		}
		if !ok {
			return fmt.Errorf("got %+v, want the words %q", left, words)
		}
		return nil
	}))
}

// reloaded waits until that number of reloads has succeeded, and none is due.
func (w *world) reloaded(limit time.Duration, n int) {
	w.Helper()
	w.must(lab.Until(w.ctx, limit, fmt.Sprintf("%d reloads have succeeded", n), func() error {
		if s := w.state().Reloads; s.Succeeded != n || s.Error != "" || s.Pending != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}))
}

// listens waits until HAProxy takes connections on a port.
func (w *world) listens(port int) {
	w.Helper()
	w.must(lab.Until(w.ctx, 20*time.Second, fmt.Sprintf("HAProxy listens on %d", port), func() error {
		var d net.Dialer
		conn, err := d.DialContext(w.ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		return conn.Close()
	}))
}

// A reload whose worker finds the port taken would have the old worker refuse
// all clients for 2 s.
func TestAServiceWhosePortIsTakenIsLeftOutAndNoRequestIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	clients := w.load()
	pid := w.workerPID()
	port, free := occupied(t)
	api := w.lb.Services()[0]
	web := lab.Service{Name: "web", Backend: "web_nodes", Port: port}
	w.must(w.lb.SetServices(api, web))
	w.must(w.lb.Reread())
	w.leftOut(15*time.Second, fmt.Sprintf("for frontend web_nodes.front: cannot bind socket (address already in use) for [127.0.0.1:%d]", port), "web")
	w.logged("service configuration rejected", "service=web", "address already in use")

	// The rest goes on: at runtime, and by a reload.
	fresh := w.startNodes("1.1", "new", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(append(w.nodes, fresh...)...)...))
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
	w.must(w.lb.SetServices(api, web, lab.Service{Name: "more", Backend: "more_nodes"}))
	w.must(w.lb.Reread())
	w.listens(w.lb.Services()[2].Port)
	w.leftOut(5*time.Second, "address already in use", "web")
	w.reloaded(5*time.Second, 1)

	// It comes by itself.
	free()
	w.leftOut(20*time.Second, "")
	w.listens(port)
	w.mustLoseNothing(clients)
}

// What is no service's own can't be left out: the reload waits, with no harm.
func TestAStatisticsPageWhosePortIsTakenHoldsTheReloadAndNoRequestIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	clients := w.load()
	pid := w.workerPID()
	before, err := os.ReadFile(w.lb.Config())
	w.must(err)
	port, free := occupied(t)
	w.must(w.lb.SetPorts(port, 0))
	w.must(w.lb.Reread())
	w.must(lab.Until(w.ctx, 15*time.Second, "the state says why", func() error {
		s := w.state().Reloads
		if !strings.Contains(s.Error, "for frontend statistics: cannot bind socket (address already in use)") || s.Pending == "" || s.Failed < 2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}))
	if now, err := os.ReadFile(w.lb.Config()); err != nil || string(now) != string(before) {
		t.Errorf("haproxy.cfg was changed (%v):\n%s", err, now)
	}
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d", got, pid)
	}
	free()
	w.listens(port) // by itself
	w.reloaded(5*time.Second, 1)
	w.mustLoseNothing(clients)
}

// Where only HAProxy can tell that it cannot bind, a reload fails once,
// and the service is found by HAProxy's words. 2.6 tells those its log only.
func TestAServiceThatOnlyAReloadFindsUnbindableIsLeftOutAfterIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	pid := w.workerPID()
	port, free := occupied(t)
	api := w.lb.Services()[0]
	w.must(w.lb.SetServices(api, lab.Service{
		Name: "web", Backend: "web_nodes", BackendOnly: true,
		Extra: fmt.Sprintf("    bind: \"127.0.0.1:%d interface lo\"\n", port), // the sidecar does not try that
	}))
	w.must(w.lb.Reread())
	w.must(lab.Until(w.ctx, 20*time.Second, "the reload fails", func() error {
		if s := w.state().Reloads; s.Failed != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}))
	if strings.HasPrefix(w.state().HAProxy.Version, "2.6") {
		w.logged("reload failed", "cannot bind: see HAProxy's log")
		w.leftOut(time.Second, "")
	} else {
		w.logged("reload failed", "cannot bind, clients were refused meanwhile")
		w.leftOut(5*time.Second, "for frontend web_nodes.front: protocol tcpv4: cannot bind socket (Address already in use)", "web")
	}
	// HAProxy still serves, though its runtime socket may be dead.
	fresh := w.startNodes("1.1", "new", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(append(w.nodes, fresh...)...)...))
	if s := w.state(); s.HAProxy.PID != pid || s.Reloads.Failed != 1 {
		t.Errorf("got %+v, %+v, want worker %d and no second try so soon", s.HAProxy, s.Reloads, pid)
	}
	free()
	w.must(w.lb.Reread())
	w.listens(port)
	w.leftOut(5*time.Second, "")
	w.reloaded(5*time.Second, 1)
}

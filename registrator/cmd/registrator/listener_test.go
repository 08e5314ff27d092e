//go:build linux

package main_test

import (
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/proctest"
)

// serving is an old program that listens.
func serving(t *testing.T, at string) *proctest.Process {
	t.Helper()
	old := proctest.Prepare(t, nil, child.Path, "serve", "--listen", at)
	old.Start()
	eventually(t, "answer of the old program", func() bool {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", at)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return old
}

// occupied is a port that an old program serves, and a wrapper of a new one that
// never listens: the checks reach the old one, and pass.
func occupied(t *testing.T, c consul, flags ...string) (old *proctest.Process, wrapped *process, id string) {
	t.Helper()
	port := freePort(t)
	old = serving(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	id = "occupied-" + strconv.Itoa(port)
	args := append([]string{"run", "--service", "api", "--port", strconv.Itoa(port), "--id", id, "--check", "http:/healthz", "--leave-wait", "1ms"}, flags...)
	return old, start(t, c.env(), append(args, "--", child.Path, "wait")...), id
}

func TestPortOfAnotherProcess_NotRegistered(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	old, p, id := occupied(t, c, "--ready-timeout", "3s", "--stop-timeout", "1s")
	seen := c.record(t, id)
	if got := p.wait(); got != 125 {
		t.Errorf("exit code %d, want 125: never ready", got)
	}
	if got := seen(); len(got) != 1 || got[0] != "absent" {
		t.Errorf("a watcher saw %q, want it never registered", got)
	}
	p.logs("port used by another process")
	if said := p.Stderr.String(); !strings.Contains(said, "pid "+strconv.Itoa(old.Cmd.Process.Pid)+" (child)") || strings.Count(said, "port used by another process, not registering") != 1 {
		t.Errorf("want it to name pid %d, once: %s", old.Cmd.Process.Pid, said)
	}
}

func TestPortOfAnotherProcess_AnyListener_Registered(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	_, p, id := occupied(t, c, "--any-listener", "--stop-timeout", "1s")
	c.registered(t, "api", id)
	p.Signal(syscall.SIGTERM)
	p.wait()
}

// The program waits for the port, as one that is restarted beside its
// predecessor.
func TestPortOfAnotherProcess_Freed_Registered(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	port := freePort(t)
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	old := serving(t, at)
	id := "freed-" + strconv.Itoa(port)
	// The program listens in a process of its own, which its shell starts.
	p := start(t, c.env(), "run", "--service", "api", "--port", strconv.Itoa(port), "--id", id, "--check", "http:/healthz", "--leave-wait", "1ms", "--",
		"/bin/sh", "-c", `trap 'kill $!; exit 0' TERM; while :; do `+child.Path+` serve --listen `+at+` & wait $!; sleep 0.1; done`)
	p.logs("port used by another process")
	if e := c.entry(t, "api", id); e != nil {
		t.Errorf("it is registered beside the old one: %+v", e.Service)
	}
	old.Signal(syscall.SIGKILL)
	c.registered(t, "api", id)
	p.Signal(syscall.SIGTERM)
	p.wait()
}

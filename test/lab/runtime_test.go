package lab

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// On HAProxy 3.1 and newer a reload may reset a connection to the runtime socket
// before the worker has read anything of it.
func TestRuntime_ConnectionResetByReload_IsAskedAgain(t *testing.T) {
	b := sockets(t)
	l, err := net.Listen("unix", b.Socket()) //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(5 * time.Second))
		for _, answer := range []string{"", "Pid: 7\n\n"} {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			if answer == "" {
				time.Sleep(20 * time.Millisecond) // closed with a line that was not read: a reset
			} else {
				_, _ = conn.Read(make([]byte, 100))
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		}
	}()
	if pid, err := b.WorkerPID(t.Context()); err != nil || pid != 7 {
		t.Errorf("got %d, %v; want 7", pid, err)
	}
	<-done
}

// sockets is a load balancer of which only the directory is there.
func sockets(t *testing.T) *Balancer {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &Balancer{Name: "lb", lab: &Lab{dir: dir}}
	if err := os.Mkdir(b.Path(""), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

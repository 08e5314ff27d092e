package lab

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestServersStateIsReadByItsHeader(t *testing.T) {
	got, err := ParseServersState("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_port\n" +
		"4 api 1 slot-1 127.0.0.1 2 4 1 4000\n4 api 2 api-2 ::1 2 0 77 4001\n4 api 3 api-3 127.0.0.1 0 0 1 4002\n4 api 4 api-4 127.0.0.1 2 8 1 4003\n4 api 5 slot-5 127.0.0.1 0 5 1 1\n" +
		"4 api 6 of-dns 127.0.0.1 2 64 1 4006\n\n")
	want := []Server{
		{"slot-1", "127.0.0.1:4000", 1, true},
		{"api-2", "[::1]:4001", 77, true},
		{"api-3", "127.0.0.1:4002", 1, false},
		{"api-4", "127.0.0.1:4003", 1, false},
		{"slot-5", "127.0.0.1:1", 1, false},
		{"of-dns", "127.0.0.1:4006", 1, true},
	}
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	for _, bad := range []string{"", "Can't find backend.\n", "1\n4 api 1\n", "1\n# srv_name srv_uweight srv_admin_state\napi-1 x 0\n"} {
		if got, err := ParseServersState(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestServersOfABackendAreReadFromTheFile(t *testing.T) {
	const file = "global\n    stats socket /x\n\nbackend web\n    server web-1 127.0.0.1:3 weight 1\n\nbackend api\n    balance roundrobin\n" +
		"    # server no 127.0.0.1:9\n    server api-1 127.0.0.1:1 check inter 1000ms weight 5\n    server slot-2 127.0.0.1:2 weight 1 disabled\n\nlisten api\n    server x 127.0.0.1:4\n"
	got, err := parseFileServers(file, "api")
	want := []Server{{"api-1", "127.0.0.1:1", 5, true}, {"slot-2", "127.0.0.1:2", 1, false}}
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if got, err := parseFileServers(file, "ap"); err == nil {
		t.Errorf("a backend that is not there: got %v, want an error", got)
	}
	if got, err := parseFileServers("backend api\n    server a 127.0.0.1:1 weight many\n", "api"); err == nil {
		t.Errorf("a weight that is none: got %v, want an error", got)
	}
}

// HAProxy's master restarts on each reload. Meanwhile it refuses connections and
// cuts answers off.
func TestMaster_Restarts_IsAskedAgain(t *testing.T) {
	b := sockets(t)
	dead, err := net.Listen("unix", b.Master()) //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()

	const whole = "1 master 1 0d00h00m01s 3.4\n# workers\n4 worker 0 0d00h00m01s 3.4\n# old workers\n3 worker 1 0d00h00m01s 3.4\n2 worker 2 0d00h00m01s 3.4\n\n"
	answers := []string{"", whole[:len(whole)-30], whole, "Success=0\n--\nAnother reload is still in progress.\n", ""}
	done := make(chan struct{})
	time.AfterFunc(100*time.Millisecond, func() {
		defer close(done)
		_ = os.Remove(b.Master())
		l, err := net.Listen("unix", b.Master()) //nolint:noctx // it does not block
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = l.Close() }()
		_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(5 * time.Second))
		for _, answer := range answers {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Read(make([]byte, 100))
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	})
	if n, err := b.OldWorkers(t.Context()); err != nil || n != 2 {
		t.Errorf("old workers: got %d, %v; want 2", n, err)
	}
	if err := b.ReloadHAProxy(t.Context()); err != nil {
		t.Errorf("reload: %v", err)
	}
	<-done
}

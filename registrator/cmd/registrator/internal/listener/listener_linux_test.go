package listener

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestReached(t *testing.T) {
	sockets := func(addresses ...string) (list []socket) {
		for i, a := range addresses {
			list = append(list, socket{at: netip.MustParseAddr(a), inode: uint64(i)})
		}
		return list
	}
	for _, c := range []struct {
		open []socket
		host string
		want string // inodes
	}{
		{nil, "127.0.0.1", "[]"},
		{sockets("127.0.0.1"), "127.0.0.1", "[0]"},
		{sockets("10.0.0.1"), "127.0.0.1", "[]"},
		{sockets("0.0.0.0", "127.0.0.1"), "127.0.0.1", "[1]"},
		{sockets("0.0.0.0", "127.0.0.1"), "10.0.0.1", "[0]"},
		{sockets("::", "0.0.0.0"), "127.0.0.1", "[1]"},
		{sockets("::"), "127.0.0.1", "[0]"},
		{sockets("::ffff:127.0.0.1", "0.0.0.0"), "127.0.0.1", "[0]"},
		{sockets("0.0.0.0"), "::1", "[]"},
		{sockets("::", "::1"), "::1", "[1]"},
		{sockets("0.0.0.0", "0.0.0.0"), "127.0.0.1", "[0 1]"},
		{sockets("0.0.0.0"), "a.name", "[]"},
	} {
		got := []uint64{}
		for _, s := range reached(c.open, c.host) {
			got = append(got, s.inode)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v, to %s: got %v, want %s", c.open, c.host, got, c.want)
		}
	}
}

// listen opens a port of this process.
func listen(t *testing.T, network, address string) (port int) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatalf("listen at %s: %v", address, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// program is a child of this process that opens nothing.
func program(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func TestOther_PortOfThisProcess_Named(t *testing.T) {
	child := program(t)
	for _, c := range []struct{ network, at, host string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"}, {"tcp4", "0.0.0.0:0", "127.0.0.1"}, {"tcp", ":0", "127.0.0.1"}, {"tcp6", "[::1]:0", "::1"},
	} {
		port := listen(t, c.network, c.at)
		if got, want := Other(child, port, []string{c.host}), fmt.Sprintf("pid %d (listener.test) at ", os.Getpid()); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", c.at, got, want)
		}
	}
}

func TestOther_PortThatIsOfTheProgram_None(t *testing.T) {
	port := listen(t, "tcp", "127.0.0.1:0")
	if got := Other(os.Getpid(), port, []string{"127.0.0.1"}); got != "" {
		t.Errorf("the program's own: got %q", got)
	}
}

func TestOther_NothingThere_None(t *testing.T) {
	child, port := program(t), listen(t, "tcp", "127.0.0.1:0")
	if got := Other(child, port, []string{"10.1.2.3", "::1"}); got != "" {
		t.Errorf("elsewhere: got %q", got)
	}
	if got := Other(child, 1, []string{"127.0.0.1"}); got != "" {
		t.Errorf("a port that is closed: got %q", got)
	}
	if got := Other(1<<22+1, port, []string{"127.0.0.1"}); got != "" {
		t.Errorf("a program that has ended: got %q", got)
	}
}

package render

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Port 80 only HAProxy may bind, often; whether a program listens there any user
// may see. The lists are the kernel's own, of this test's socket alone: another
// program may listen on the same port at another address.
func TestWhoListensIsSeenWithoutTheRightToBind(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		network := "tcp4"
		if address[0] == '[' {
			network = "tcp6"
		}
		l, err := net.Listen(network, address) //nolint:noctx // it does not block
		if err != nil {
			t.Fatal(err)
		}
		at, inode := l.Addr().(*net.TCPAddr).AddrPort(), inodeOf(t, l.(*net.TCPListener))
		if !isListenedOn(at) {
			t.Errorf("%s: is not seen to be listened on", at)
		}
		own := netip.IPv4Unspecified()
		if at.Addr().Is6() {
			own = netip.IPv6Unspecified()
		}
		for what, c := range map[string]struct {
			at   netip.AddrPort
			want bool
		}{
			"the address":           {at, true},
			"any of its family":     {netip.AddrPortFrom(own, at.Port()), true},
			"another of its family": {netip.AddrPortFrom(elsewhere(at.Addr()), at.Port()), at.Addr().IsUnspecified()},
			"another port":          {netip.AddrPortFrom(at.Addr(), at.Port()^1), false},
		} {
			if got := listsListener(linesOf(t, inode, c.at.Addr()), c.at); got != c.want {
				t.Errorf("%s listens; %s, %s: got %v, want %v", at, what, c.at, got, c.want)
			}
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		client, err := net.Dial(network, ":"+port) //nolint:noctx // it is there
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		of := linesOf(t, inodeOf(t, accepted.(*net.TCPConn)), at.Addr())
		if of == "" || listsListener(of, at) {
			t.Errorf("%s: a connection there is taken for one that listens: %q", at, of)
		}
		_, _, _ = client.Close(), accepted.Close(), l.Close()
	}
}

// inodeOf is the number by which the kernel's lists name a socket.
func inodeOf(t *testing.T, s syscall.Conn) uint64 {
	t.Helper()
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var stat syscall.Stat_t
	if e := raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &stat) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return stat.Ino
}

// linesOf are a socket's lines in the list of an address's family.
func linesOf(t *testing.T, inode uint64, a netip.Addr) string {
	t.Helper()
	text, err := os.ReadFile(listTCP(a))
	if err != nil {
		t.Fatal(err)
	}
	var own strings.Builder
	for line := range strings.Lines(string(text)) {
		// proc(5): the tenth word is the inode.
		if words := strings.Fields(line); len(words) > 9 && words[9] == strconv.FormatUint(inode, 10) {
			own.WriteString(line)
		}
	}
	return own.String()
}

func elsewhere(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.MustParseAddr("127.1.2.3")
	}
	return netip.MustParseAddr("2001:db8::1:2:3:4")
}

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
		any4, any6 := netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()), netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
		own, other := any4, any6
		if at.Addr().Is6() {
			own, other = any6, any4
		}
		for what, c := range map[string]struct {
			at   netip.AddrPort
			want bool
		}{
			"the address":           {at, true},
			"any of its family":     {own, true},
			"any of the other":      {other, false},
			"another of its family": {netip.AddrPortFrom(elsewhere(at.Addr()), at.Port()), at.Addr().IsUnspecified()},
			"another port":          {netip.AddrPortFrom(at.Addr(), at.Port()^1), false},
		} {
			if got := listsListener(linesOf(t, inode, c.at.Addr()), c.at); got != c.want {
				t.Errorf("%s listens; %s, %s: got %v, want %v", at, what, c.at, got, c.want)
			}
		}
		_ = l.Close()
		if listsListener(linesOf(t, inode, at.Addr()), at) {
			t.Errorf("%s: is closed, and listened on", at)
		}
	}
}

// inodeOf is the number by which the kernel's lists name a socket.
func inodeOf(t *testing.T, l *net.TCPListener) uint64 {
	t.Helper()
	raw, err := l.SyscallConn()
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

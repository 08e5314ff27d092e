package render

import (
	"net"
	"net/netip"
	"testing"
)

// Port 80 only HAProxy may bind, often; whether a program listens there any user
// may see.
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
		at := l.Addr().(*net.TCPAddr).AddrPort()
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
			if got := isListenedOn(c.at); got != c.want {
				t.Errorf("%s listens; %s, %s: got %v, want %v", at, what, c.at, got, c.want)
			}
		}
		_ = l.Close()
		if isListenedOn(at) {
			t.Errorf("%s: is closed, and listened on", at)
		}
	}
}

func elsewhere(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.MustParseAddr("127.1.2.3")
	}
	return netip.MustParseAddr("2001:db8::1:2:3:4")
}

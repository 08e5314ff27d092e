package consul

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func networks(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func TestAddresses_EachRule(t *testing.T) {
	own := []Listener{
		{Addr: netip.MustParseAddr("127.0.0.1"), First: 9600, Last: 9600, What: "api.address"},
		{Addr: netip.IPv4Unspecified(), First: 80, Last: 89, What: "frontend web"},
		{Addr: netip.IPv6Unspecified(), First: 443, Last: 443, What: "frontend tls"},
		{Addr: netip.MustParseAddr("10.0.0.100"), First: 8404, Last: 8404, What: "statistics"},
	}
	const never, self, loop = "never accepted", "listens at this address", "loopback"
	type rules = Addresses
	for _, c := range []struct {
		at, node string
		rules    Addresses
		want     string // in the reason; "" is that it is taken
	}{
		{"10.0.0.1:80", "other", rules{}, ""},
		{"[2001:db8::1]:80", "other", rules{}, ""},
		{"127.0.0.1:4000", "own", rules{}, ""},
		{"[::1]:4000", "own", rules{}, ""},
		{"127.0.0.1:4000", "other", rules{}, loop},
		{"127.9.9.9:4000", "other", rules{}, loop},
		{"[::1]:4000", "other", rules{}, loop},
		{"[64:ff9b::7f00:1]:4000", "other", rules{}, loop},
		{"[2002:7f00:1::9]:4000", "other", rules{}, loop},
		{"169.254.169.254:80", "own", rules{Allow: networks("169.254.0.0/16")}, never},
		{"169.254.1.1:80", "own", rules{}, never},
		{"[fe80::1]:80", "own", rules{Allow: networks("fe80::/10")}, never},
		{"[fd00:ec2::254]:80", "own", rules{}, never},
		{"[64:ff9b::a9fe:a9fe]:80", "own", rules{}, never},
		{"[2002:a9fe:a9fe::]:80", "own", rules{}, never},
		{"100.100.100.200:80", "own", rules{}, never},
		{"0.0.0.0:80", "own", rules{}, "not the address of one machine"},
		{"[::]:80", "own", rules{}, "not the address of one machine"},
		{"0.1.2.3:80", "own", rules{}, "not the address of one machine"},
		{"[ff02::1]:80", "own", rules{}, "not the address of one machine"},

		{"127.0.0.1:9600", "own", rules{Own: own}, self + " (api.address)"},
		{"127.0.0.1:9601", "own", rules{Own: own}, ""},
		{"127.0.0.1:9600", "own", rules{Own: own, Allow: networks("127.0.0.0/8")}, self},
		{"10.0.0.5:80", "other", rules{Own: own}, self + " (frontend web)"},
		{"127.0.0.3:80", "own", rules{Own: own}, self},
		{"10.0.0.5:85", "other", rules{Own: own}, self},
		{"10.0.0.5:90", "other", rules{Own: own}, ""},
		{"10.0.0.6:80", "other", rules{Own: own}, ""},
		{"10.0.0.5:443", "other", rules{Own: own}, self},
		{"10.0.0.100:8404", "other", rules{Own: own}, self},
		{"10.0.0.5:8404", "other", rules{Own: own}, ""},

		{"10.0.0.1:80", "other", rules{Allow: networks("10.0.0.0/8")}, ""},
		{"192.0.2.1:80", "other", rules{Allow: networks("10.0.0.0/8")}, "not in addresses.allow"},
		{"10.0.0.1:80", "other", rules{Allow: networks("10.0.0.0/8"), Deny: networks("10.0.0.1/32")}, "denied by 10.0.0.1/32"},
		{"[64:ff9b::a00:1]:80", "other", rules{Deny: networks("10.0.0.0/8")}, "denied by 10.0.0.0/8"},
		{"127.0.0.1:4000", "own", rules{Allow: networks("10.0.0.0/8")}, "not in addresses.allow"},
		{"127.0.0.1:4000", "other", rules{Allow: networks("10.0.0.0/8", "127.0.0.0/24")}, ""},
		{"127.0.1.1:4000", "other", rules{Allow: networks("127.0.0.0/24")}, "not in addresses.allow"},
		{"[::1]:4000", "other", rules{Allow: networks("::1/128")}, ""},
		// A network of everything does not speak of loopback.
		{"127.0.0.1:4000", "other", rules{Allow: networks("0.0.0.0/0", "::/0")}, loop},
		{"[::1]:4000", "other", rules{Allow: networks("0.0.0.0/0", "::/0")}, loop},
	} {
		a := admission{
			Addresses: c.rules,
			isHere:    func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.5") },
			isOwnNode: func(node, _ string) (bool, string) { return node == "own", `that is "own"` },
		}
		err := a.check(netip.MustParseAddrPort(c.at), c.node, "dc1")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %s: got %v, want %q", c.at, c.node, err, c.want)
		}
	}
}

func TestHere_KnowsTheMachinesAddresses(t *testing.T) {
	is := here()
	for addr, want := range map[string]bool{"127.0.0.1": true, "127.1.2.3": true, "::1": true, "192.0.2.77": false, "2001:db8::77": false} {
		if got := is(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestParseAddress_Brackets_AreForIPv6(t *testing.T) {
	for text, want := range map[string]string{"[::1]": "::1", "::1": "::1", "10.0.0.1": "10.0.0.1", "[10.0.0.1]": "", "[::1": "", "::1]": "", "[]": "", "[[::1]]": "", "[::1]:80": ""} {
		addr, err := parseAddress(text)
		if got := fmt.Sprint(addr); err == nil && got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %v, %v, want %q", text, addr, err, want)
		}
	}
}

package consul

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Addresses says where instances of a service may be. The zero value takes all
// that could be the address of another machine.
type Addresses struct {
	Allow []netip.Prefix // an instance's address must be in one of these; empty is anywhere
	Deny  []netip.Prefix // and in none of these
	// Own are the load balancer's and the sidecar's own listeners. An instance
	// there would give anybody who asks HAProxy what HAProxy or the sidecar give
	// to the machine, or send a request in circles.
	Own []Listener
}

// Listener is a TCP address, or a range of ports, that is listened on.
type Listener struct {
	Addr        netip.Addr // unspecified is every address of this machine
	First, Last uint16
	What        string // for the reason: who listens
}

// judgesAlike reports whether other listeners of this load balancer make no
// difference to what is known of a service. Each service that is added or removed
// changes them; nearly always for none of the others.
func (a Addresses) judgesAlike(known catalog.Service) bool {
	rules := admission{Addresses: a, isHere: here()}
	return len(known.Rejected) == 0 && !slices.ContainsFunc(known.Instances, func(i catalog.Instance) bool {
		at := inner(i.Addr.Addr())
		return rules.isOwn(i.Addr.Port(), at) != "" || i.AgentPort != 0 && rules.isOwn(uint16(i.AgentPort), at) != ""
	})
}

// admission decides about the instances of one answer.
type admission struct {
	Addresses
	max int // instances at most; 0 is no limit
	// resolve gives the address of a host name; nil: host names are refused.
	resolve func(host string) (netip.Addr, error)
	// isHere reports whether an address is one of this machine's; nil: only
	// loopback is.
	isHere func(netip.Addr) bool
	// isOwnNode reports whether a node is that of the sidecar's own agent, on
	// this machine, and else why not; nil: every node is.
	isOwnNode func(name, datacenter string) (is bool, why string)
}

// metadata are addresses at which clouds give their machines credentials.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local; nearly all clouds
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // RFC 1122, 3.2.1.3
	broadcast   = netip.MustParseAddr("255.255.255.255")
	loopback4   = netip.MustParsePrefix("127.0.0.0/8")
	nat64       = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour   = netip.MustParsePrefix("2002::/16")    // RFC 3056
	compatible  = netip.MustParsePrefix("::/96")        // RFC 4291, 2.5.5.1
)

// inner returns the IPv4 address to which a translator or a tunnel would send
// what goes to an IPv6 address, or the address itself.
func inner(a netip.Addr) netip.Addr {
	if a.Is4() || a.IsLoopback() || a.IsUnspecified() {
		return a
	}
	bytes := a.As16()
	switch {
	case nat64.Contains(a), compatible.Contains(a):
		return netip.AddrFrom4([4]byte(bytes[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(bytes[2:6]))
	}
	return a
}

// check refuses an address that an instance on a node may not have.
func (a admission) check(at netip.AddrPort, node, datacenter string) error {
	outer, addr := at.Addr(), inner(at.Addr())
	contains := func(p netip.Prefix) bool { return p.Contains(outer) || p.Contains(addr) }
	switch {
	case addr.IsUnspecified(), addr.IsMulticast(), addr == broadcast, thisNetwork.Contains(addr):
		return errors.New("not the address of one machine")
	case slices.ContainsFunc(metadata, contains):
		return errors.New("cloud metadata and link-local addresses are never accepted")
	case addr.IsLinkLocalUnicast():
		return errors.New("link-local addresses are never accepted")
	}
	if what := a.isOwn(at.Port(), addr); what != "" {
		return fmt.Errorf("this load balancer listens at this address (%s)", what)
	}
	if i := slices.IndexFunc(a.Deny, contains); i >= 0 {
		return fmt.Errorf("denied by %s of addresses.deny", a.Deny[i])
	}
	if len(a.Allow) > 0 && !slices.ContainsFunc(a.Allow, contains) {
		return errors.New("not in addresses.allow")
	}
	isSaid := func(p netip.Prefix) bool { return isLoopback(p) && p.Contains(addr) }
	if !addr.IsLoopback() || a.isOwnNode == nil || slices.ContainsFunc(a.Allow, isSaid) {
		return nil
	}
	if is, why := a.isOwnNode(node, datacenter); !is {
		return fmt.Errorf("loopback addresses are accepted only from the Consul node of this machine: %s; to accept them, list them in addresses.allow", why)
	}
	return nil
}

// isOwn returns what of this load balancer listens at an address, or "".
func (a admission) isOwn(port uint16, addr netip.Addr) string {
	for _, l := range a.Own {
		if port < l.First || port > l.Last {
			continue
		}
		if l.Addr == addr || l.Addr.IsUnspecified() && (addr.IsLoopback() || a.isHere != nil && a.isHere(addr)) {
			return l.What
		}
	}
	return ""
}

// isLoopback reports whether a prefix has loopback addresses only: one that
// has others, too, such as 0.0.0.0/0, does not speak of loopback.
func isLoopback(p netip.Prefix) bool {
	return loopback4.Contains(p.Addr()) && p.Bits() >= loopback4.Bits() || p.Addr().Is6() && p.Addr().IsLoopback() && p.IsSingleIP()
}

// here returns a function that reports whether an address is this machine's. It
// looks at the machine's addresses once, when it is first needed.
func here() func(netip.Addr) bool {
	known := sync.OnceValue(func() map[netip.Addr]bool {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return nil
		}
		known := make(map[netip.Addr]bool, len(addrs))
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				known[p.Addr().Unmap().WithZone("")] = true
			}
		}
		return known
	})
	return func(a netip.Addr) bool { return a.IsLoopback() || known()[a] }
}

// parseAddress reads a literal address, an IPv6 one in brackets too: that is how
// it stands in a URL, and how some register it.
func parseAddress(text string) (netip.Addr, error) {
	if inside, ok := strings.CutPrefix(text, "["); ok {
		inside, ok = strings.CutSuffix(inside, "]")
		addr, err := netip.ParseAddr(inside)
		if err == nil && (!ok || !addr.Is6()) {
			err = errors.New("brackets are for IPv6")
		}
		return addr, err
	}
	return netip.ParseAddr(text)
}

package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// place is where others reach the node.
type place struct {
	address string // "" is the address of the Consul agent's own machine
	port    int
	check   string // host at which the Consul agent reaches it
}

// shown is the address for people.
func (p place) shown() string {
	if p.address == "" {
		return "the agent's"
	}
	return p.address
}

func (p place) healthURL() string {
	return "http://" + net.JoinHostPort(p.check, strconv.Itoa(p.port)) + "/healthz"
}

// advertise finds out where others reach the node, from the first of these
// that says: the setting; the address that it listens on; where the agent is.
// An agent on this machine knows the machine's address better than we do.
func advertise(ctx context.Context, setting string, listening net.Addr, consul string,
	outbound func(ctx context.Context, hostPort string) (netip.Addr, error),
) (place, error) {
	bound, err := netip.ParseAddrPort(listening.String())
	if err != nil {
		return place{}, fmt.Errorf("listening on %q: %w", listening, err)
	}
	addr, port := bound.Addr(), int(bound.Port())
	if setting != "" {
		if addr, port, err = parseAddress(setting, port); err != nil {
			return place{}, fmt.Errorf("address %w", err)
		}
	}
	if !addr.IsUnspecified() {
		addr = addr.Unmap()
		return place{addr.String(), port, addr.String()}, nil
	}
	hostPort, local := agentAt(consul)
	if local {
		return place{"", port, "127.0.0.1"}, nil
	}
	if addr, err = outbound(ctx, hostPort); err != nil {
		return place{}, fmt.Errorf("no --address (API_ADDRESS) is given, and none is found: %w", err)
	}
	return place{addr.String(), port, addr.String()}, nil
}

// agentAt reads the address of the Consul agent as Consul's CLI takes it, and
// tells whether it is on this machine.
func agentAt(consul string) (hostPort string, local bool) {
	scheme, rest, found := strings.Cut(consul, "://")
	if found && scheme == "unix" {
		return "", true
	}
	if !found {
		rest = consul
	}
	hostPort, _, _ = strings.Cut(rest, "/")
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.Trim(hostPort, "[]")
		hostPort = net.JoinHostPort(host, "8500")
	}
	ip, err := netip.ParseAddr(host)
	return hostPort, host == "localhost" || host == "" || err == nil && ip.IsLoopback()
}

// outbound gives the address of ours from which the way to hostPort goes. It
// sends nothing there. While the name can't be resolved, since Consul may come
// later than we do, it gives the first address that is not the loopback's.
func outbound(ctx context.Context, hostPort string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", hostPort) // connect(2) on UDP picks the route, no more
	if err != nil {
		return anyAddress(err)
	}
	defer func() { _ = conn.Close() }()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return local.Addr().Unmap(), err
}

func anyAddress(unresolved error) (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().Unmap(), nil
		}
	}
	return netip.Addr{}, unresolved
}

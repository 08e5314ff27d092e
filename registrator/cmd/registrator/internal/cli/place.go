package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// place is where others reach the program.
type place struct {
	address string // "" is the address of the Consul agent's own machine
	// hosts are where the agent, and we, may reach it: it is asked at all of them
	// until one answers, since it may listen by IPv4 or IPv6 only.
	hosts []string
}

// findPlace finds out where others reach the program, from the first of these
// that says: the setting; that the agent is on this machine; the way that leads
// to the agent. An agent on this machine knows its address better than we do.
func findPlace(ctx context.Context, setting, consul string, outbound func(ctx context.Context, hostPort string) (netip.Addr, error)) (place, error) {
	if setting != "" {
		return place{setting, []string{setting}}, nil
	}
	hostPort, local := agentAt(consul)
	if local {
		return place{"", []string{"127.0.0.1", "::1"}}, nil
	}
	ip, err := outbound(ctx, hostPort)
	if err != nil {
		return place{}, fmt.Errorf("%s: not given, and not found: %w", both("address"), err)
	}
	return place{ip.String(), []string{ip.String()}}, nil
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

// outboundTimeout bounds the look-up of the agent's name.
const outboundTimeout = 2 * time.Second

// outbound gives the address of ours from which the way to hostPort goes. It
// sends nothing there. While the name can't be resolved, since Consul may come
// later than we do, it gives the first address that is not the loopback's.
func outbound(ctx context.Context, hostPort string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, outboundTimeout)
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
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().Unmap(), nil
		}
	}
	return netip.Addr{}, unresolved
}

// Package reach finds out at which address others reach this machine, by the way that
// leads from here to Consul. Both halves use it.
//
// It is a leaf: it imports nothing of this project.
package reach

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Consul returns host and port of Consul's address, which is written as Consul's
// command line takes it, and reports whether it is on this machine. A Unix socket has
// no host and port.
func Consul(address string) (hostPort string, local bool) {
	scheme, rest, found := strings.Cut(address, "://")
	switch {
	case found && scheme == "unix":
		return "", true
	case !found:
		scheme, rest = "http", address
	}
	hostPort, _, _ = strings.Cut(rest, "/")
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil { // no port
		host = strings.Trim(hostPort, "[]")
		hostPort = net.JoinHostPort(host, map[string]string{"http": "80", "https": "443"}[scheme])
	}
	ip, err := netip.ParseAddr(host)
	return hostPort, host == "localhost" || host == "" || err == nil && ip.IsLoopback()
}

// timeout bounds the look-up of a name.
const timeout = 2 * time.Second

// Outbound returns the address of this machine from which the way to hostPort goes. It
// sends nothing there.
func Outbound(ctx context.Context, hostPort string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", hostPort) // connect(2) on UDP picks the route, no more
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return local.Addr().Unmap().WithZone(""), err
}

// OutboundOrAny is Outbound, but while the name in hostPort cannot be resolved, because
// Consul may come later than this program, it returns the first address of this machine
// that is no loopback address.
func OutboundOrAny(ctx context.Context, hostPort string) (netip.Addr, error) {
	addr, unresolved := Outbound(ctx, hostPort)
	if unresolved == nil {
		return addr, nil
	}
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

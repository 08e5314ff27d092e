package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// reachTimeout bounds a look at names and routes.
const reachTimeout = 2 * time.Second

// reach finds out where clients reach HAProxy: where the setting says, a host's
// name looked up; else where the way to Consul begins. "" is the address of
// Consul's node: an agent on this machine knows it better than we do. last is
// what came out the last time.
func reach(ctx context.Context, setting, consul, last string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if setting != "" {
		if addr, err := netip.ParseAddr(setting); err == nil {
			return addr.String(), nil
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", setting)
		if err != nil {
			return "", fmt.Errorf("look up %q: %w", setting, err)
		}
		return choose(found, last), nil
	}
	hostPort, local := consulAt(consul)
	if local {
		return "", nil
	}
	// connect(2) on UDP picks a route, and sends nothing.
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", hostPort)
	if err != nil {
		return "", fmt.Errorf("find the route to Consul: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	here, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return "", fmt.Errorf("find the route to Consul: %w", err)
	}
	if here.Addr().IsLoopback() {
		return "", nil
	}
	return here.Addr().Unmap().WithZone("").String(), nil
}

// choose keeps the last address as long as it is among those that were found;
// resolvers give several in any order. Else it takes the lowest, IPv4 first.
func choose(found []netip.Addr, last string) string {
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortFunc(found, netip.Addr.Compare)
	for _, addr := range found {
		if addr.String() == last {
			return last
		}
	}
	return found[0].String()
}

// consulAt reads Consul's address, and tells whether it is on this machine.
func consulAt(address string) (hostPort string, local bool) {
	scheme, rest, found := strings.Cut(address, "://")
	switch {
	case found && scheme == "unix":
		return "", true
	case !found:
		scheme, rest = "http", address
	}
	hostPort, _, _ = strings.Cut(rest, "/")
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil { // a URL without a port
		host = strings.Trim(hostPort, "[]")
		hostPort = net.JoinHostPort(host, map[string]string{"http": "80", "https": "443"}[scheme])
	}
	ip, err := netip.ParseAddr(host)
	return hostPort, host == "localhost" || err == nil && ip.IsLoopback()
}

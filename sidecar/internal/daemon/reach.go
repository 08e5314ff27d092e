package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/internal/reach"
)

// lookupTimeout bounds a look at names and routes.
const lookupTimeout = 2 * time.Second

// addressOf finds out where clients reach HAProxy: where the setting says, a host's
// name looked up; else where the way to Consul begins. "" is the address of
// Consul's node: an agent on this machine knows it better than we do. last is
// what came out the last time.
func addressOf(ctx context.Context, setting, consul, last string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
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
	hostPort, local := reach.Consul(consul)
	if local {
		return "", nil
	}
	here, err := reach.Outbound(ctx, hostPort)
	if err != nil {
		return "", fmt.Errorf("find the route to Consul: %w", err)
	}
	if here.IsLoopback() {
		return "", nil
	}
	return here.String(), nil
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

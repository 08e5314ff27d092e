package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/pointsman/pointsman/internal/reach"
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
	hostPort, local := reach.Consul(consul)
	if local {
		return place{"", port, "127.0.0.1"}, nil
	}
	if addr, err = outbound(ctx, hostPort); err != nil {
		return place{}, fmt.Errorf("no --address (API_ADDRESS) is given, and none is found: %w", err)
	}
	return place{addr.String(), port, addr.String()}, nil
}

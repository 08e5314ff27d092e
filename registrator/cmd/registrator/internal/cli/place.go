package cli

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pointsman/pointsman/internal/reach"
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
	hostPort, local := reach.Consul(consul)
	if local {
		return place{"", []string{"127.0.0.1", "::1"}}, nil
	}
	ip, err := outbound(ctx, hostPort)
	if err != nil {
		return place{}, fmt.Errorf("%s: not given, and not found: %w", both("address"), err)
	}
	return place{ip.String(), []string{ip.String()}}, nil
}

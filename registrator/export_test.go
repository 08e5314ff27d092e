package registrator

import (
	"context"
	"net"
	"net/netip"
)

// SetDial lets the sidecars be in memory.
func (r *Registration) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	if h, asks := r.wait.(*handshake); asks {
		h.dial = dial
	}
}

// The bounds that tests reach.
const (
	MaxSidecars = maxSidecars
	MaxAnswer   = 64 << 10 // of sidecarapi
	AskWait     = askWait
)

// AgentSays returns what HAProxy would hear at the address; at "", one that is beside no sidecar.
func (r *Registration) AgentSays(from string) string {
	ip, _ := netip.ParseAddr(from)
	return r.asked.says(ip)
}

// FirstLook returns a watchdog that has looked at nothing yet. Each call looks once.
func (r *Registration) FirstLook() func() {
	return (&watchdog{r: r, exclusive: exclusive{r: r}}).look
}

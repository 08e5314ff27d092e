package registrator

import (
	"context"
	"net"
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
	MaxAnswer   = maxAnswer
	AskWait     = askWait
)

// AgentSays gives what the agent check would hear.
func (r *Registration) AgentSays() string { return r.asked.says() }

// FirstLook gives a watchdog that has looked at nothing yet. Each call looks once.
func (r *Registration) FirstLook() func() {
	return (&watchdog{r: r, exclusive: exclusive{r: r}}).look
}

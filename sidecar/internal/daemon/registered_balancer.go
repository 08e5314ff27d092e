package daemon

import (
	"net"
	"strconv"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// balancer is this load balancer as a service in Consul, for clients to find.
//
// It is registered while HAProxy answers, and never taken away: HAProxy
// outlives the sidecar, and it is HAProxy that Consul's check asks. A HAProxy
// that is gone permanently is forgotten by Consul (deregister_after), and
// registered again by the sidecar that sees it answer again.
func balancer(running func() bool) registrable {
	return registrable{
		setting: "registration.address",
		wanted:  func(cfg config.Config) bool { return cfg.Registration.Service != "" && running() },
		at:      func(cfg config.Config) string { return cfg.Registration.Address },
		entry:   balancerEntry,
	}
}

// balancerEntry makes the registration. The ID does not have the service's name
// in it, so that a load balancer that changes it is not registered twice.
func balancerEntry(cfg config.Config, address string) entry {
	b := cfg.Registration
	return entry{
		Service: b.Service, ID: "pointsman-lb-" + cfg.Name, Address: address, Port: b.Port, Tags: b.Tags,
		Meta: map[string]string{contract.KeyBalancer: cfg.Name},
		Checks: []registrator.Check{{
			Name: "haproxy", HTTP: checkURL(b, cfg.HAProxy.Health, address),
			Interval: b.Check.Interval, Timeout: b.Check.Timeout, DeregisterCriticalAfter: b.DeregisterAfter,
			// HAProxy may be in maintenance, or gone again: only its answer tells.
			StartCritical: true,
		}},
	}
}

// checkURL is where HAProxy answers, as Consul's agent reaches it: the address
// that it binds if that is one, else the one where clients reach it. That of
// Consul's node is the agent's own machine.
func checkURL(b config.Registration, h config.Endpoint, address string) string {
	if b.Check.URL != "" {
		return b.Check.URL
	}
	at := config.BindAddrPort(h.Bind)
	host := address
	switch {
	case !at.Addr().IsUnspecified():
		host = at.Addr().String()
	case host == "":
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(int(at.Port()))) + h.URI
}

package cli

import (
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// metaBalancer is the key of a service's meta that holds the load balancer's
// name.
const metaBalancer = "pointsman-lb"

// entry is a load balancer as Consul has it.
type entry struct {
	Name, Service     string
	Address           string // "" is that of Consul's node
	Port              int
	Tags              []string
	Check             string // URL
	Interval, Timeout time.Duration
	DeregisterAfter   time.Duration
}

func entryOf(cfg config.Config, address string) entry {
	b := cfg.Balancer
	return entry{
		Name: cfg.Name, Service: b.Service, Address: address, Port: b.Port, Tags: b.Tags,
		Check: checkURL(b, cfg.HAProxy.Health, address), Interval: b.Check.Interval, Timeout: b.Check.Timeout,
		DeregisterAfter: b.DeregisterAfter,
	}
}

// checkURL is where HAProxy answers, as Consul's agent reaches it: the address
// that it binds if that is one, else the one where clients reach it. That of
// Consul's node is the agent's own machine.
func checkURL(b config.Balancer, h config.Health, address string) string {
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

// config is the entry in the registrator's words. The ID does not have the
// service's name in it, so that a load balancer that changes it is not
// registered twice.
func (e entry) config(consul *api.Config, log hclog.Logger) registrator.Config {
	return registrator.Config{
		Consul:  consul,
		Service: e.Service, ID: "pointsman-lb-" + e.Name, Address: e.Address, Port: e.Port, Tags: e.Tags,
		Meta: map[string]string{metaBalancer: e.Name},
		Checks: []registrator.Check{{
			Name: "haproxy", HTTP: e.Check, Interval: e.Interval, Timeout: e.Timeout, DeregisterCriticalAfter: e.DeregisterAfter,
			// HAProxy may be in maintenance, or gone again: only its answer tells.
			StartCritical: true,
		}},
		Logger: log,
	}
}

package daemon

import (
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
)

// entry is a service as Consul has it.
type entry struct {
	Service, ID string
	Address     string // "" is that of Consul's node
	Port        int
	Tags        []string
	Meta        map[string]string
	Checks      []registrator.Check
}

// config is the entry in the registrator's words.
func (e entry) config(consul *api.Config, log hclog.Logger) registrator.Config {
	return registrator.Config{
		Consul:  consul,
		Service: e.Service, ID: e.ID, Address: e.Address, Port: e.Port, Tags: e.Tags, Meta: e.Meta,
		Checks: e.Checks,
		// The lock of haproxy.cfg says that the name is this sidecar's. A
		// registration of another makes leaving nodes ask that one.
		Exclusive: true, Watchdog: time.Second,
		Logger: log,
	}
}

package plan

import (
	"slices"
	"strings"
)

// The backend and the server by which HAProxy itself knows whether this load
// balancer is in rotation: its health answer says no while the server is in
// maint. Operators set it; no plan ever has a step for it.
const (
	RotationBackend = "pointsman.rotation"
	RotationServer  = "lb"
)

// WithMaintenance returns o with Maintenance as the backend RotationBackend has
// it, and without that backend, which is no service's. A HAProxy that was not
// asked for it, or does not have it, is not in maintenance.
func (o Observed) WithMaintenance() Observed {
	backends := make(map[string]Backend, len(o.Backends))
	o.Maintenance = false
	for name, b := range o.Backends {
		if name != RotationBackend {
			backends[name] = b
			continue
		}
		o.Maintenance = slices.ContainsFunc(b.Servers, func(s Server) bool { return s.Name == RotationServer && s.Admin == Maint })
	}
	o.Backends = backends
	return o
}

// RotationFile is the backend RotationBackend as haproxy.cfg must have it. Its
// server gets no request; nothing listens there.
func RotationFile(maintenance bool) FileBackend {
	return FileBackend{
		Backend: RotationBackend, Known: true,
		Servers: []FileServer{{Name: RotationServer, Addr: freeAddr, Weight: 1, Disabled: maintenance}},
	}
}

// MaintenanceIn reports whether a haproxy.cfg begins out of rotation.
func MaintenanceIn(file string) bool {
	in := false
	for line := range strings.Lines(file) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "backend":
			in = words[1] == RotationBackend
		case in && words[0] == "server" && words[1] == RotationServer:
			return slices.Contains(words, "disabled")
		}
	}
	return false
}

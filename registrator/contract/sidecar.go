package contract

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SidecarService is the service as which sidecars register themselves, unless
// they are set otherwise.
const SidecarService = "pointsman-sidecar"

// The meta keys of a sidecar's own registration.
const (
	KeyBalancer = "pointsman-lb"     // the load balancer's name: 1 to MaxName printable ASCII characters
	KeyScheme   = "pointsman-scheme" // how its API is spoken to: http (or absent) or https
	// KeyRoutes is the services that it routes, with a comma between two. What
	// finds no room in one value goes on in KeyRoutes-1, KeyRoutes-2 and so on.
	// A value of "*" stands for services that are not listed: ask the sidecar. Those of
	// several datacenters are listed with ServiceIn after it, as far as there is room.
	KeyRoutes = "pointsman-routes"
	// KeyStopped is an RFC 3339 time: the sidecar has stopped in order since then,
	// and its HAProxy still serves as long as no check is critical.
	KeyStopped = "pointsman-stopped"
	// KeyPeer is the IP address and port at which its HAProxy exchanges stick tables.
	KeyPeer = "pointsman-peer"
)

// The bounds of these values.
const (
	MaxName = 256 // bytes of a load balancer's or a service's name
	// maxValue is Consul's own bound (API documentation, "Register Service",
	// Meta), maxRoutes how many of its 64 keys the services may take.
	maxValue  = 512
	maxRoutes = 32
)

// Sidecar is what a sidecar says of itself to those that leave, and to what
// deploys.
type Sidecar struct {
	Balancer string // the load balancer's name
	HTTPS    bool   // its API speaks TLS

	// Services is what it routes, sorted, each once, and with ServiceIn each of the
	// datacenters that are named for a service. Unlisted is set where there are too many
	// to list: a client that wants to know has to ask. Services has then at most what
	// ServiceIn gives for those of several datacenters.
	Services []string
	Unlisted bool

	// Peer is where its HAProxy exchanges stick tables; not valid if it does not.
	Peer netip.AddrPort

	// Stopped is when the sidecar stopped, in UTC; zero while it runs.
	Stopped time.Time
}

// MayRoute reports whether the sidecar routes the service, as far as it says.
func (s Sidecar) MayRoute(service string) bool {
	return s.Unlisted || slices.Contains(s.Services, service)
}

// ServiceIn is how a sidecar lists a service whose instances of one of Consul's
// datacenters it routes to, besides the service itself.
func ServiceIn(service, datacenter string) string { return service + "@" + datacenter }

// MayRouteIn reports whether the sidecar routes to the service's instances of a
// datacenter, as far as it says. isNamed is that it names the datacenter for the service;
// without that it has the instances of its agent's.
func (s Sidecar) MayRouteIn(service, datacenter string) (may, isNamed bool) {
	if slices.Contains(s.Services, ServiceIn(service, datacenter)) {
		return true, true
	}
	namesAnother := slices.ContainsFunc(s.Services, func(listed string) bool { return strings.HasPrefix(listed, ServiceIn(service, "")) })
	return s.MayRoute(service) && !namesAnother, false
}

// Format returns the keys and values that say s. It does not check s:
// ParseSidecar(s.Format()) does.
func (s Sidecar) Format() map[string]string {
	out := map[string]string{KeyBalancer: s.Balancer}
	if s.HTTPS {
		out[KeyScheme] = "https"
	}
	if s.Peer.IsValid() {
		out[KeyPeer] = s.Peer.String()
	}
	if !s.Stopped.IsZero() {
		out[KeyStopped] = s.Stopped.UTC().Format(time.RFC3339Nano)
	}
	values, fit := pack(s.Services)
	if s.Unlisted || !fit {
		values = []string{"*"}
		if more, fit := pack(inSeveral(s.Services)); fit && len(more) < maxRoutes {
			values = append(values, more...)
		}
	}
	for i, v := range values {
		out[routesKey(i)] = v
	}
	return out
}

// inSeveral returns the ServiceIn of services of which several datacenters are named. They
// are listed where not all services can be: the first of them need not be the own one of a
// program that asks, which has to name its datacenter then.
func inSeveral(services []string) (out []string) {
	count := map[string]int{}
	of := func(listed string) (service string, isIn bool) {
		at := strings.LastIndex(listed, ServiceIn("", ""))
		return listed[:max(at, 0)], at > 0
	}
	services = slices.Compact(slices.Sorted(slices.Values(services)))
	for _, listed := range services {
		if service, isIn := of(listed); isIn {
			count[service]++
		}
	}
	for _, listed := range services {
		if service, isIn := of(listed); isIn && count[service] > 1 {
			out = append(out, listed)
		}
	}
	return out
}

// pack puts names into as few values as Consul's bounds allow. fit is false
// where there is no room for all, or one can't be listed.
func pack(names []string) (values []string, fit bool) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	for _, name := range names {
		last := len(values) - 1
		switch {
		case !isListable(name) || len(name) > maxValue:
			return nil, false
		case last >= 0 && len(values[last])+1+len(name) <= maxValue:
			values[last] += "," + name
		default:
			values = append(values, name)
		}
	}
	return values, len(values) <= maxRoutes
}

// ParseSidecar reads the keys of a sidecar's registration. The error joins one
// KeyError for every key that cannot be read. A registration without
// KeyBalancer is none.
func ParseSidecar(meta map[string]string) (Sidecar, error) {
	s := Sidecar{Balancer: meta[KeyBalancer]}
	var errs []error
	bad := func(key, want string) { errs = append(errs, &KeyError{Key: key, Value: meta[key], Want: want}) }
	if !isText(s.Balancer, MaxName) || s.Balancer == "" {
		bad(KeyBalancer, fmt.Sprintf("a name of 1 to %d printable ASCII characters", MaxName))
		s.Balancer = ""
	}
	switch meta[KeyScheme] {
	case "", "http":
	case "https":
		s.HTTPS = true
	default:
		bad(KeyScheme, "http or https")
	}
	if text := meta[KeyStopped]; text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil || !isWritable(t.UTC()) {
			bad(KeyStopped, "an RFC 3339 time such as 2026-01-02T15:04:05Z")
		} else {
			s.Stopped = t.UTC()
		}
	}
	if text := meta[KeyPeer]; text != "" {
		at, err := netip.ParseAddrPort(text)
		if err != nil || at.Addr().IsUnspecified() || at.Addr().Zone() != "" || at.Port() == 0 {
			bad(KeyPeer, "an IP address and port such as 10.0.0.5:10000")
		} else {
			s.Peer = at
		}
	}
	for i := range maxRoutes {
		key := routesKey(i)
		value := meta[key]
		if value == "" {
			break
		}
		if value == "*" {
			s.Unlisted = true
			continue
		}
		names := strings.Split(value, ",")
		if len(value) > maxValue || slices.ContainsFunc(names, func(n string) bool { return !isListable(n) }) {
			bad(key, "services with commas between them, or *")
			continue
		}
		s.Services = append(s.Services, names...)
	}
	slices.Sort(s.Services)
	s.Services = slices.Compact(s.Services)
	return s, errors.Join(errs...)
}

// isListable reports whether a service's name can stand in a list.
func isListable(name string) bool {
	return name != "" && name != "*" && isText(name, MaxName) && !strings.Contains(name, ",")
}

func routesKey(i int) string {
	if i == 0 {
		return KeyRoutes
	}
	return KeyRoutes + "-" + strconv.Itoa(i)
}

package registrator

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// maxSidecars bounds how many are asked; each is a goroutine and a connection.
const maxSidecars = 256

// sidecar is one that may route to the service, as it is registered.
type sidecar struct {
	key   string // unique in Consul, and the same wherever it comes back
	name  string // the load balancer's, or what stands for it
	at    string // host:port
	https bool
	bad   error // why it can't be asked, or nil

	datacenter string // if it is in another one than the program
	asks       string // the datacenter that is named in questions; "" is none
	unread     bool   // it stands for all sidecars of the datacenter, which is not known to have any
}

// label is the load balancer's name for logs, unique among all datacenters.
func (s sidecar) label() string {
	if s.datacenter == "" || s.unread {
		return s.name
	}
	return s.name + "." + s.datacenter
}

// isAt reports whether both are asked the same way.
func (s sidecar) isAt(o sidecar) bool {
	return s.name == o.name && s.at == o.at && s.asks == o.asks && s.https == o.https && (s.bad == nil) == (o.bad == nil)
}

// sidecarsOf reads the registrations of a datacenter, which anybody may have written, and
// gives those that may route to the service's instances in the program's own, sorted.
// datacenter is "" where both are the same. One that can't be read is given too, as bad:
// its load balancer may send requests all the same.
func sidecarsOf(entries []*api.ServiceEntry, service, own, datacenter string) []sidecar {
	var out []sidecar
	for _, e := range entries {
		if e == nil || e.Node == nil || e.Service == nil {
			continue
		}
		said, err := contract.ParseSidecar(e.Service.Meta)
		may, isNamed := said.MayRouteIn(service, own)
		if datacenter != "" {
			may = isNamed || said.Unlisted
		}
		if err == nil && (!may || hasEnded(e, said)) {
			continue
		}
		s := sidecar{key: e.Node.Node + "\n" + e.Service.ID, name: said.Balancer, https: said.HTTPS, bad: err, datacenter: datacenter}
		if datacenter != "" {
			s.key = datacenter + "\n" + s.key
		}
		if isNamed || datacenter != "" {
			s.asks = own
		}
		if s.name == "" {
			s.name = short(e.Service.ID)
		}
		if s.bad == nil {
			s.at, s.bad = addressOf(e)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b sidecar) int { return cmp.Compare(a.key, b.key) })
	return slices.CompactFunc(out, func(a, b sidecar) bool { return a.key == b.key })
}

// hasEnded reports whether a sidecar has stopped, and its HAProxy too or long
// ago: a check of what it has left in Consul is critical.
func hasEnded(e *api.ServiceEntry, said contract.Sidecar) bool {
	return !said.Stopped.IsZero() && slices.ContainsFunc(e.Checks, func(c *api.HealthCheck) bool {
		return c != nil && c.Status == api.HealthCritical
	})
}

// hostName is a name as RFC 1123 has it, and with the underscore that container
// networks have.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)

// addressOf returns host:port where a sidecar's API is.
func addressOf(e *api.ServiceEntry) (string, error) {
	host, port := e.Service.Address, e.Service.Port
	if host == "" {
		host = e.Node.Address
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && (ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast()),
		err != nil && (len(host) > 253 || !hostName.MatchString(host)):
		return "", fmt.Errorf("registered at %s: want the address of one machine", short(host))
	case port < 1 || port > 65535:
		return "", fmt.Errorf("registered at port %d: want 1 to 65535", port)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// short quotes a text from outside, and bounds what it can add to a log line.
func short(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return strconv.Quote(s)
}

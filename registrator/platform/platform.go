// Package platform knows the environment variables that container platforms set
// in a container for each service of theirs: Kubernetes for its services,
// Docker for links. A service named as a program of ours is, gets variables that
// begin as its settings do, such as POINTSMAN_PORT=tcp://10.0.0.1:9600.
//
// Its invariant: what Split takes out is no setting. A name is taken only with
// the value that the platforms give it, or beside one that has it.
//
// It is a leaf, reads nothing and holds no state. The command lines of both
// halves import it.
package platform

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

var (
	// after is what follows the service's name and "_" in such a variable
	// (Kubernetes, "Accessing the Service", environment variables).
	after = regexp.MustCompile(`^(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	link  = regexp.MustCompile(`^(tcp|udp|sctp)://\S+:\d+$`)
)

// Split takes the variables that begin with the prefix, as POINTSMAN_, and are
// the platform's out of environ. It gives the rest, and their names, sorted.
func Split(environ []string, prefix string) (rest, taken []string) {
	services := servicesOf(environ, prefix)
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		if isOf(services, key, value) {
			taken = append(taken, key)
		} else {
			rest = append(rest, e)
		}
	}
	slices.Sort(taken)
	return rest, slices.Compact(taken)
}

// servicesOf returns the services, as POINTSMAN or POINTSMAN_LB, that variables
// speak of whose values no setting has.
func servicesOf(environ []string, prefix string) []string {
	var services []string
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		service, isPort := strings.CutSuffix(key, "_PORT")
		if !isPort || !link.MatchString(value) {
			var isHost bool
			service, isHost = strings.CutSuffix(key, "_SERVICE_HOST")
			if _, err := netip.ParseAddr(value); !isHost || err != nil {
				continue
			}
		}
		if strings.HasPrefix(service+"_", prefix) {
			services = append(services, service)
		}
	}
	return services
}

func isOf(services []string, key, value string) bool {
	return slices.ContainsFunc(services, func(service string) bool {
		suffix, found := strings.CutPrefix(key, service+"_")
		// A port alone may be a setting's; the platform's is a link.
		return found && after.MatchString(suffix) && (suffix != "PORT" || link.MatchString(value))
	})
}

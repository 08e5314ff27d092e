package consul

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/go-hclog"
)

// Service is what to watch: a service's instances for one backend.
type Service struct {
	Name    string   // Consul's
	Backend string   // stands for the watch: several may have one Name; default Name
	Tags    []string // an instance must have them all; see hasTags
	Filter  string   // an expression in Consul's filter language, or ""

	// Datacenters are those that are asked: the instances of the first are used as they
	// are, those of the others as backups. None: the one of Options.
	Datacenters []string
	// PreferZone makes the instances on nodes of another zone than the agent's backups.
	PreferZone bool

	MaxInstances int // as many take part at most, the oldest; 0 is no limit

	Resolve bool // look up host names that stand for addresses

	Addresses Addresses // where its instances may be

	Claims Claims // which of their tags and meta are kept
	Quiet  bool   // no backend is made of it so far: what happens to it is logged at debug

	// What one watch of the service asks for: see each.
	from     string // the datacenter; "" is that of Options
	isBackup bool   // it is not the first
}

// origin is what one watch is of.
type origin struct{ backend, datacenter string }

func (s Service) origin() origin { return origin{s.Backend, s.from} }

// each returns the service as each of its watches has it: one for each datacenter.
func (s Service) each() []Service {
	if len(s.Datacenters) == 0 {
		return []Service{s}
	}
	out := make([]Service, len(s.Datacenters))
	for i, datacenter := range s.Datacenters {
		out[i] = s
		out[i].from, out[i].isBackup = datacenter, i > 0
	}
	return out
}

// log returns a logger that names the service, and the backend where that has another
// name.
func (s Service) log(l hclog.Logger) hclog.Logger {
	l = l.With("service", s.Name)
	if s.Backend != s.Name {
		l = l.With("backend", s.Backend)
	}
	if s.from != "" {
		l = l.With("datacenter", s.from)
	}
	return l
}

// text names the service, and the datacenter that is asked, for errors.
func (s Service) text() string {
	if s.from == "" {
		return fmt.Sprintf("service %q", s.Name)
	}
	return fmt.Sprintf("service %q in datacenter %q", s.Name, s.from)
}

// asksLike reports whether the question is the same, and the operator's rules
// for the answer.
func (s Service) asksLike(o Service) bool {
	return s.Name == o.Name && s.Filter == o.Filter && s.Resolve == o.Resolve && s.MaxInstances == o.MaxInstances && s.Quiet == o.Quiet && slices.Equal(s.Tags, o.Tags) &&
		s.isBackup == o.isBackup && s.PreferZone == o.PreferZone && slices.Equal(s.Datacenters, o.Datacenters) &&
		s.Claims.equal(o.Claims) && slices.Equal(s.Addresses.Allow, o.Addresses.Allow) && slices.Equal(s.Addresses.Deny, o.Addresses.Deny)
}

// checkServices returns the services with their defaults, or everything that is
// wrong with them. The last known state is kept by backend.
func checkServices(services []Service) ([]Service, error) {
	var errs []error
	services = slices.Clone(services)
	seen := make(map[string]bool, len(services))
	for i := range services {
		s := &services[i]
		s.Backend = cmp.Or(s.Backend, s.Name)
		switch {
		case s.Name == "":
			errs = append(errs, errors.New("consul: service without a name"))
		case strings.ContainsFunc(s.Name, unicode.IsControl):
			errs = append(errs, fmt.Errorf("consul: service %q: control character in the name", s.Name))
		case seen[s.Backend]:
			errs = append(errs, fmt.Errorf("consul: service %q: its backend %q is named twice", s.Name, s.Backend))
		}
		seen[s.Backend] = true
		for n, datacenter := range s.Datacenters {
			switch {
			case datacenter == "" || strings.ContainsFunc(datacenter, unicode.IsControl):
				errs = append(errs, fmt.Errorf("consul: service %q: datacenter %q: want a name", s.Name, datacenter))
			case slices.Contains(s.Datacenters[:n], datacenter):
				errs = append(errs, fmt.Errorf("consul: service %q: datacenter %q is named twice", s.Name, datacenter))
			}
		}
	}
	return services, errors.Join(errs...)
}

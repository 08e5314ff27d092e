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

	MaxInstances int // as many take part at most, the oldest; 0 is no limit

	Resolve bool // look up host names that stand for addresses

	Addresses Addresses // where its instances may be

	Claims Claims // which of their tags and meta are kept
	Quiet  bool   // no backend is made of it so far: what happens to it is logged at debug
}

// log gives a logger that names the service, and the backend where that has another
// name.
func (s Service) log(l hclog.Logger) hclog.Logger {
	if s.Backend == s.Name {
		return l.With("service", s.Name)
	}
	return l.With("service", s.Name, "backend", s.Backend)
}

// asksLike reports whether the question is the same, and the operator's rules
// for the answer.
func (s Service) asksLike(o Service) bool {
	return s.Name == o.Name && s.Filter == o.Filter && s.Resolve == o.Resolve && s.MaxInstances == o.MaxInstances && s.Quiet == o.Quiet && slices.Equal(s.Tags, o.Tags) &&
		s.Claims.equal(o.Claims) && slices.Equal(s.Addresses.Allow, o.Addresses.Allow) && slices.Equal(s.Addresses.Deny, o.Addresses.Deny)
}

func backendsOf(services []Service) map[string][]string {
	out := make(map[string][]string, len(services))
	for _, s := range services {
		out[s.Name] = append(out[s.Name], s.Backend)
	}
	return out
}

// checkServices gives the services with their defaults, or everything that is
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
	}
	return services, errors.Join(errs...)
}

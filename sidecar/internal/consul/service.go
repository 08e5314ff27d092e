package consul

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Service is what to watch. Tags and Filter are Consul's to judge.
type Service struct {
	Name   string
	Tags   []string // an instance must have them all
	Filter string   // an expression in Consul's filter language, or ""

	Addresses Addresses // where its instances may be
}

func (s Service) equal(o Service) bool {
	return s.Name == o.Name && s.Filter == o.Filter && slices.Equal(s.Tags, o.Tags) && s.Addresses.equal(o.Addresses)
}

// checkServices names everything that is wrong with the services. One name
// stands for one question: what is known is kept by name.
func checkServices(services []Service) error {
	var errs []error
	seen := make(map[string]bool, len(services))
	for _, s := range services {
		switch {
		case s.Name == "":
			errs = append(errs, errors.New("consul: service without a name"))
		case strings.ContainsFunc(s.Name, unicode.IsControl):
			errs = append(errs, fmt.Errorf("consul: service %q: control character in the name", s.Name))
		case seen[s.Name]:
			errs = append(errs, fmt.Errorf("consul: service %q: named twice", s.Name))
		}
		seen[s.Name] = true
	}
	return errors.Join(errs...)
}

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

// asksLike reports whether the question is the same, and the operator's rules
// for the answer.
func (s Service) asksLike(o Service) bool {
	return s.Name == o.Name && s.Filter == o.Filter && slices.Equal(s.Tags, o.Tags) &&
		slices.Equal(s.Addresses.Allow, o.Addresses.Allow) && slices.Equal(s.Addresses.Deny, o.Addresses.Deny)
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

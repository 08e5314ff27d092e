package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// policyDatacenters is where a service's instances are, in two tiers: HAProxy has one
// of backups.
func policyDatacenters() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "datacenters", def: "[]", derived: "`consul.datacenter`",
				doc: "Consul datacenters of the service. The instances of the first one serve. Those of all others are backups: HAProxy uses all of them together while no instance of the first is up (`option allbackups`). See [datacenters](guides/datacenters.md).",
				at: func(s *Service) value {
					return list{p: &s.Datacenters, what: "datacenter, or a list of them", item: datacenter, whole: eachOnce}
				},
			},
			backend: func(s *Service) []string { return linesUnless(len(s.Datacenters) < 2, allBackups) },
		},
		{
			setting: setting[Service]{
				key: "prefer_zone", def: "false",
				doc: "Use instances of other zones as backups only, as `datacenters` does with other datacenters. A zone is the node meta `zone` in Consul. The load balancer's own is that of its agent's node; if that has none, all instances serve. See [datacenters](guides/datacenters.md#zones-of-one-datacenter).",
				at:  func(s *Service) value { return yesNo{&s.PreferZone} },
			},
			backend: func(s *Service) []string { return linesUnless(!s.PreferZone, allBackups) },
		},
	}
}

// allBackups lets HAProxy use all backups; without it all requests go to the first one.
const allBackups = "option allbackups"

// WatchedDatacenters is the datacenters that are named: the service's, else that of all
// services. None is the agent's.
func (c Config) WatchedDatacenters(s Service) []string {
	if len(s.Datacenters) == 0 && c.Consul.Datacenter != "" {
		return []string{c.Consul.Datacenter}
	}
	return s.Datacenters
}

// datacentersNamed reports a backend of a service that names no datacenter beside one that
// does. Nodes that leave ask about an instance of their datacenter, and the agent's is not
// known by its name.
func (l *loader) datacentersNamed() {
	if l.cfg.Consul.Datacenter != "" {
		return
	}
	for i, s := range l.cfg.Services {
		if len(s.Datacenters) > 0 {
			continue
		}
		names := func(o Service) bool { return o.Name == s.Name && len(o.Datacenters) > 0 }
		if other := slices.IndexFunc(l.cfg.Services, names); other >= 0 && s.Name != "" {
			key, otherKey := l.prefixes[i], l.prefixes[other]
			l.conflict("must be set, because "+otherKey+".datacenters is set for the same service: "+
				"an instance that leaves asks about its own datacenter, which this backend does not name", "[]",
				key+".datacenters", key, otherKey+".datacenters", otherKey)
		}
	}
}

// datacenter passes what Consul takes as the name of one (its agent lowers the letters;
// agent/config/builder.go, validDatacenter).
func datacenter(s string) error {
	const most = 64 // it is a part of server names
	switch {
	case s == "":
		return errors.New("must not be empty")
	case len(s) > most:
		return fmt.Errorf("is longer than %d bytes", most)
	case s != strings.ToLower(s):
		return fmt.Errorf("must be in lower case, as Consul's datacenters are: write %s", quote(strings.ToLower(s)))
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-_", r) {
			return errors.New("may contain only lower-case letters, digits, '-' and '_'")
		}
	}
	return nil
}

func eachOnce(items []string) error {
	for i, item := range items {
		if slices.Contains(items[:i], item) {
			return fmt.Errorf("item %d: %s is listed twice", i+1, quote(item))
		}
	}
	return nil
}

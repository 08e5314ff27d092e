package render

import "slices"

// notAtRuntime are keywords of a defaults section that have no effect in a backend which
// HAProxy adds as it runs, and have one in a backend of the file (docs/haproxy-facts.md,
// fact 41).
var notAtRuntime = []string{"compression"}

// withoutProfiles returns the backends of a profile all of their own again, if HAProxy could
// not add them as it runs: the template does not print the profile, or does not make them
// from it, or its defaults have what has no effect then. It gives the reasons, by the names
// of the defaults sections. empty is what the template prints.
func (s *Settings) withoutProfiles(empty []section) (apart map[string]string) {
	printed := map[[2]string]proxy{} // by kind and name
	for _, p := range proxiesOf(empty, "defaults", "backend") {
		at := [2]string{p.kind, p.name}
		if _, again := printed[at]; !again {
			printed[at] = p
		}
	}
	apart = map[string]string{}
	const notPrinted = "the template does not print .Profiles"
	for _, p := range s.Profiles {
		made, isPrinted := printed[[2]string{"defaults", p.Defaults}]
		if !isPrinted {
			apart[p.Defaults] = notPrinted
			continue
		}
		for _, keyword := range notAtRuntime {
			if made.has(keyword) {
				apart[p.Defaults] = "haproxy.defaults.extra or the template has " + keyword
			}
		}
	}
	for _, svc := range s.Services {
		made := printed[[2]string{"backend", svc.Backend}]
		if svc.Defaults == "" || len(made.lines) > 0 && made.isFrom(svc.Defaults) {
			continue
		}
		apart[svc.Defaults] = notPrinted
	}
	if len(apart) == 0 {
		return nil
	}
	profiles := s.Profiles
	s.Profiles, s.Services = nil, slices.Clone(s.Services)
	for _, p := range profiles {
		if apart[p.Defaults] == "" {
			s.Profiles = append(s.Profiles, p)
		}
	}
	for i := range s.Services {
		if apart[s.Services[i].Defaults] != "" {
			s.Services[i].Defaults = ""
		}
	}
	return apart
}

func (s section) isFrom(defaults string) bool {
	name, _ := s.from()
	return name == defaults
}

// Defaults is a defaults section by which HAProxy can add a backend as it runs. Else it is
// "", and why says why haproxy.cfg does not have it.
func (r *Renderer) Defaults(name string) (defaults, why string) {
	if slices.ContainsFunc(r.settings.Profiles, func(p Service) bool { return p.Defaults == name }) {
		return name, ""
	}
	return "", r.apart[name]
}

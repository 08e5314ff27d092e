package render

import "slices"

// withoutProfiles gives each backend all of its own again, if the template does not print
// the profiles and make the backends from them. It reports whether it was so. empty is
// what the template prints.
func (s *Settings) withoutProfiles(empty []byte) bool {
	printed := sections(empty)
	hasDefaults := func(p Service) bool {
		return slices.ContainsFunc(printed, func(x section) bool { return x.kind == "defaults" && x.name == p.Defaults })
	}
	isMade := func(svc Service) bool {
		return svc.Defaults == "" || slices.ContainsFunc(printed, func(x section) bool {
			from, _ := x.from()
			return x.kind == "backend" && x.name == svc.Backend && from == svc.Defaults
		})
	}
	isMissing := slices.ContainsFunc(s.Profiles, func(p Service) bool { return !hasDefaults(p) })
	if !isMissing && !slices.ContainsFunc(s.Services, func(svc Service) bool { return !isMade(svc) }) {
		return false
	}
	s.Profiles, s.Services = nil, slices.Clone(s.Services)
	for i := range s.Services {
		s.Services[i].Defaults = ""
	}
	return true
}

// Defaults is a defaults section by which HAProxy can add a backend as it runs; "" if
// haproxy.cfg does not have it.
func (r *Renderer) Defaults(name string) string {
	if slices.ContainsFunc(r.settings.Profiles, func(p Service) bool { return p.Defaults == name }) {
		return name
	}
	return ""
}

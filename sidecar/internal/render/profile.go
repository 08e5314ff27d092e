package render

import "slices"

// withoutProfiles gives each backend all of its own again, if the template does not print
// the profiles and make the backends from them. It reports whether it was so. empty is
// what the template prints.
func (s *Settings) withoutProfiles(empty []section) bool {
	defaults, madeFrom := map[string]bool{}, map[[2]string]bool{} // by name; by backend and defaults
	for _, x := range empty {
		switch x.kind {
		case "defaults":
			defaults[x.name] = true
		case "backend":
			from, _ := x.from()
			madeFrom[[2]string{x.name, from}] = true
		}
	}
	isMissing := slices.ContainsFunc(s.Profiles, func(p Service) bool { return !defaults[p.Defaults] })
	isMade := func(svc Service) bool { return svc.Defaults == "" || madeFrom[[2]string{svc.Backend, svc.Defaults}] }
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

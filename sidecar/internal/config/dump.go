package config

import (
	"encoding/json"
	"strings"
)

// MarshalJSON returns the settings as the file has them, nested by their keys,
// durations as text and secrets masked. What it gives for a Config without
// secrets is itself a file that Load takes.
func (c Config) MarshalJSON() ([]byte, error) {
	out := nested(settings(), &c)
	services := make([]map[string]any, 0, len(c.Services))
	for i := range c.Services {
		if c.Services[i].Preview.Of == "" { // else it follows from its service
			services = append(services, nested(serviceSettings(), &c.Services[i]))
		}
	}
	out[servicesKey] = services
	frontends := make([]map[string]any, len(c.Frontends))
	for i := range c.Frontends {
		f := &c.Frontends[i]
		frontends[i] = nested(frontendSettings(), f)
		routes := make([]map[string]any, len(f.Routes))
		for k := range f.Routes {
			routes[k] = nested(routeSettings(), &f.Routes[k])
		}
		frontends[i][routesKey] = routes
		if len(f.Discover.Allow) > 0 {
			allow := make([]map[string]any, len(f.Discover.Allow))
			for k := range f.Discover.Allow {
				allow[k] = nested(allowSettings(), &f.Discover.Allow[k])
			}
			frontends[i]["discover"].(map[string]any)["allow"] = allow
		}
	}
	out[frontendsKey] = frontends
	if len(c.Profiles) > 0 {
		profiles := make([]map[string]any, len(c.Profiles))
		for i := range c.Profiles {
			profiles[i] = nested(profileSettings(), &c.Profiles[i])
		}
		out[profilesKey] = profiles
	}
	return json.Marshal(out)
}

func nested[T any](table []setting[T], from *T) map[string]any {
	root := map[string]any{}
	for _, s := range table {
		if s.noFile {
			continue
		}
		in := root
		parts := strings.Split(s.key, ".")
		for _, p := range parts[:len(parts)-1] {
			section, ok := in[p].(map[string]any)
			if !ok {
				section = map[string]any{}
				in[p] = section
			}
			in = section
		}
		in[parts[len(parts)-1]] = s.at(from).plain()
	}
	return root
}

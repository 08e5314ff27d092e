package config

import (
	"encoding/json"
	"slices"
	"strings"
)

// MarshalJSON returns the settings as the file has them, nested by their keys,
// durations as text and secrets masked. What it gives for a Config without
// secrets is itself a file that Load takes.
func (c Config) MarshalJSON() ([]byte, error) {
	out := nested(settings(), &c)
	isPreview := func(s Service) bool { return s.Preview.Of != "" } // it follows from its service
	out[servicesKey] = nestedEach(serviceSettings(), slices.DeleteFunc(slices.Clone(c.Services), isPreview))
	frontends := nestedEach(frontendSettings(), c.Frontends)
	for i, f := range c.Frontends {
		frontends[i][routesKey] = nestedEach(routeSettings(), f.Routes)
		if len(f.Discover.Allow) > 0 {
			frontends[i]["discover"].(map[string]any)["allow"] = nestedEach(allowSettings(), f.Discover.Allow)
		}
	}
	out[frontendsKey] = frontends
	if len(c.Profiles) > 0 {
		out[profilesKey] = nestedEach(profileSettings(), c.Profiles)
	}
	return json.Marshal(out)
}

func nestedEach[T any](table []setting[T], list []T) []map[string]any {
	out := make([]map[string]any, len(list))
	for i := range list {
		out[i] = nested(table, &list[i])
	}
	return out
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

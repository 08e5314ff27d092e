package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxClaim bounds a tag that is read, in bytes.
const maxClaim = 2048

// ParseClaim reads what a tag after its prefix, or a meta value, says of a route:
// HOST/PATH, then perhaps the word strip, which takes the path off. It may come from
// anybody who can register a service.
func ParseClaim(s string) (Route, error) {
	words, err := claimWords(s)
	if err != nil {
		return Route{}, err
	}
	r, err := parseHostPath(words[0])
	if err != nil {
		return Route{}, err
	}
	for _, option := range words[1:] {
		if option != "strip" {
			return Route{}, fmt.Errorf("option %.50q is not supported", option)
		}
		r.Strip = Segments(r.Path)
	}
	return r, checkStrip(r)
}

// fabioPrefix begins the tags that fabio reads (its documentation, "Routing").
const fabioPrefix = "urlprefix-"

// ParseFabio reads a tag of fabio's. isFabio is false if the tag is another one.
// Of fabio's options strip and proto=http mean the same here; the others are
// refused, as is a route by port.
func ParseFabio(tag string) (r Route, isFabio bool, err error) {
	s, isFabio := strings.CutPrefix(tag, fabioPrefix)
	if !isFabio {
		return Route{}, false, nil
	}
	words, err := claimWords(s)
	if err != nil {
		return Route{}, true, err
	}
	if strings.HasPrefix(words[0], ":") {
		return Route{}, true, errors.New("a route by port is not supported")
	}
	if r, err = parseHostPath(words[0]); err != nil {
		return Route{}, true, err
	}
	for _, option := range words[1:] {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case key == "proto" && value == "http":
		case key == "strip":
			if r.Strip, err = stripOf(r.Path, value); err != nil {
				return Route{}, true, err
			}
		default:
			return Route{}, true, fmt.Errorf("option %.50q of fabio is not supported", option)
		}
	}
	return r, true, checkStrip(r)
}

func claimWords(s string) ([]string, error) {
	if len(s) > maxClaim {
		return nil, fmt.Errorf("is longer than %d bytes", maxClaim)
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		return nil, errors.New("names no host and path")
	}
	return words, nil
}

// parseHostPath reads HOST/PATH, HOST, or /PATH, which is of every host.
func parseHostPath(s string) (r Route, err error) {
	host, path, hasPath := strings.Cut(s, "/")
	if host != "" {
		if r.Host, err = ParseHost(host); err != nil {
			return Route{}, fmt.Errorf("host %.100q %w", host, err)
		}
	}
	if hasPath {
		if r.Path, err = ParsePath("/" + path); err != nil {
			return Route{}, fmt.Errorf("path %.100q %w", "/"+path, err)
		}
	}
	return r, nil
}

// stripOf is how many segments fabio's strip takes off, which must be the first of
// the route's path.
func stripOf(path, prefix string) (int, error) {
	off, err := ParsePath(prefix)
	if err != nil {
		return 0, fmt.Errorf("strip %.100q %w", prefix, err)
	}
	if !strings.HasPrefix(path+"/", off+"/") {
		return 0, fmt.Errorf("strip %.100q is not how the path %q begins, in whole segments", prefix, path)
	}
	return Segments(off), nil
}

func checkStrip(r Route) error {
	if r.Strip > MaxStrip {
		return fmt.Errorf("can take off %d segments at most", MaxStrip)
	}
	return nil
}

// Allow says which services a host is taken from.
type Allow struct {
	Host     string // as Host gives it, or "*" for every host and routes of none
	Services string // a name; "*" in it stands for any text
}

// Allows reports whether a service may have a host. The entries with the most
// specific host decide: an entry for one host takes it away from those that have all
// hosts around it. A wildcard, or every host, also gets the requests of the hosts in it
// for paths that have no route there. So a service may have it only if it may have each
// host of an entry in it, too.
func Allows(allow []Allow, host, service string) bool {
	if !names(allow, host, service) {
		return false
	}
	in, isWildcard := strings.CutPrefix(host, "*")
	return !isWildcard || !slices.ContainsFunc(allow, func(a Allow) bool {
		return a.Host != host && strings.HasSuffix(a.Host, in) && !names(allow, a.Host, service)
	})
}

// MayHave reports whether a service may have the route of a key in the map of a frontend,
// should it claim that.
func (r Rules) MayHave(frontend, key, service string) bool {
	i := slices.IndexFunc(r.Frontends, func(f FrontendRules) bool { return f.Name == frontend })
	if i < 0 || r.Frontends[i].Settings[key] {
		return false
	}
	host, _, _ := strings.Cut(key, "/")
	d := discovery{Rules: r}
	return Allows(r.Frontends[i].Allow, host, service) && d.refused(service) == nil
}

// allows is Allows, for many routes of few hosts: a wildcard takes long.
func allows(allow []Allow) func(host, service string) bool {
	known := map[[2]string]bool{}
	return func(host, service string) bool {
		if !strings.HasPrefix(host, "*") {
			return names(allow, host, service)
		}
		key := [2]string{host, service}
		allowed, is := known[key]
		if !is {
			allowed = Allows(allow, host, service)
			known[key] = allowed
		}
		return allowed
	}
}

// names reports whether the entries with the most specific host name a service.
func names(allow []Allow, host, service string) bool {
	best, named := -1, false
	for _, a := range allow {
		n := a.covers(host)
		if n < 0 || n < best {
			continue
		}
		if n > best {
			best, named = n, false
		}
		named = named || matches(a.Services, service)
	}
	return named
}

// covers is how specific the entry is for a host; below 0 it is not about it.
func (a Allow) covers(host string) int {
	below, isWildcard := strings.CutPrefix(a.Host, "*.")
	switch {
	case a.Host == anyHost:
		return 0
	case a.Host == host:
		return 2*len(a.Host) + 1
	case isWildcard && strings.HasSuffix(host, "."+below):
		return 2 * len(a.Host)
	}
	return -1
}

// matches reports whether a name is a pattern, in which "*" stands for any text.
func matches(pattern, name string) bool {
	first, rest, hasStar := strings.Cut(pattern, "*")
	if !hasStar {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for i := 0; i <= len(name); i++ {
		if matches(rest, name[i:]) {
			return true
		}
		if rest == "" {
			return true
		}
	}
	return false
}

// Claimant is a service with the routes that its instances claim.
type Claimant struct {
	Service string
	Since   uint64 // the lowest CreateIndex of its instances
	Routes  []Route
}

// Conflict is a claim that is not followed.
type Conflict struct {
	Service string
	Route   Route
	Owner   string // who has the route; "" where Reason says all
	Reason  string
}

// Assign returns each claimed route an owner. Routes of the settings, by key, are not
// given away. A route stays with the service that has it (owners, by key) as long as
// an instance of that claims it; else the service that was registered first gets it,
// of two the one whose name sorts first. So all who see the same services agree, also
// after a restart.
func Assign(settings map[string]bool, owners map[string]string, claimants []Claimant, allow []Allow) (owned map[string]Route, conflicts []Conflict) {
	claimants = slices.Clone(claimants)
	slices.SortFunc(claimants, func(a, b Claimant) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Service, b.Service))
	})
	owned = map[string]Route{}
	by, isAllowed := map[string]string{}, allows(allow)
	claim := func(c Claimant, onlyOwn bool) {
		for _, r := range c.Routes {
			key := r.Key()
			if onlyOwn != (owners[key] == c.Service) {
				continue
			}
			switch owner, taken := by[key]; {
			case !isAllowed(cmp.Or(r.Host, anyHost), c.Service):
				reason := "the frontend's allow does not name the service for this host"
				if names(allow, cmp.Or(r.Host, anyHost), c.Service) {
					reason = "the frontend's allow has an entry for a host in this one that does not name the service"
				}
				conflicts = append(conflicts, Conflict{c.Service, r, "", reason})
			case settings[key]:
				conflicts = append(conflicts, Conflict{c.Service, r, "settings", "the settings have this route"})
			case !taken:
				owned[key], by[key] = r, c.Service
			case owner != c.Service:
				conflicts = append(conflicts, Conflict{c.Service, r, owner, "another service has this route"})
			case owned[key].Strip != r.Strip:
				conflicts = append(conflicts, Conflict{c.Service, r, owner, "an instance of the service claims it with another strip"})
			}
		}
	}
	for _, c := range claimants {
		claim(c, true)
	}
	for _, c := range claimants {
		claim(c, false)
	}
	slices.SortStableFunc(conflicts, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Route.Key(), b.Route.Key()))
	})
	return owned, conflicts
}

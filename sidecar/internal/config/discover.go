package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Discover is how a frontend takes routes from the services in Consul.
type Discover struct {
	TagPrefix string // of tags that claim a route; "" is none
	Meta      string // key of the meta that claims routes; "" is none
	Fabio     bool   // fabio's tags claim routes, too
	Allow     []Allow
}

// isOn reports whether services can claim routes.
func (d Discover) isOn() bool { return d.TagPrefix != "" || d.Meta != "" || d.Fabio }

// Allow is the services from which a host is taken.
type Allow struct {
	Host     string   // as given; a wildcard may be its first label; "*" is every host
	Services []string // names; "*" in one stands for any text
}

// Profile is the settings of the backends of discovered services.
type Profile struct {
	Name     string
	Services []string // that may choose it; "*" in one stands for any text
	Service  Service  // without a name
}

// DefaultProfile is the profile of the services that choose none.
const DefaultProfile = "default"

// Discovery bounds what is taken from the services in Consul.
type Discovery struct {
	ProfileMeta string        // key of the meta by which a service chooses its profile
	Grace       time.Duration // from the last claim of a route until it goes
	MaxServices int
	MaxRoutes   int // of one service
}

func discoverySettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "discovery.profile_meta", def: "pointsman-profile",
			doc: "Key of the service meta by which a discovered service chooses one of `profiles`. See [routes from Consul](guides/routes-from-consul.md).",
			at:  func(c *Config) value { return text{&c.Discovery.ProfileMeta, "word", metaKey} },
		},
		{
			key: "discovery.grace", def: "30s",
			doc: "Time that a discovered route stays after no instance claims it any more. The backend of a service without routes stays for this time, too.",
			at:  func(c *Config) value { return span{&c.Discovery.Grace, 0, 24 * time.Hour} },
		},
		{
			key: "discovery.max_services", def: "100",
			doc: "Largest number of discovered services. Each takes one connection to Consul's agent.",
			at:  func(c *Config) value { return number{&c.Discovery.MaxServices, 1, 1000} },
		},
		{
			key: "discovery.max_routes", def: "100",
			doc: "Largest number of routes that one service may claim.",
			at:  func(c *Config) value { return number{&c.Discovery.MaxRoutes, 1, 1000} },
		},
	}
}

// discoverSettings are those of a frontend, besides the list discover.allow.
func discoverSettings() []setting[Frontend] {
	return []setting[Frontend]{
		{
			key: "discover.tag_prefix", derived: "none",
			doc: "Prefix of the tags by which services claim routes, such as `pointsman-route=`. The rest of a tag is `HOST/PATH`, or `HOST/PATH strip`. Mode http only. See [routes from Consul](guides/routes-from-consul.md).",
			at:  func(f *Frontend) value { return text{&f.Discover.TagPrefix, "text", orEmpty(someLine)} },
		},
		{
			key: "discover.meta", derived: "none",
			doc: "Key of the service meta by which services claim routes, such as `pointsman-route`. Several in one value are separated by `;`. The sidecar looks at the instances of every service that `discover.allow` names.",
			at:  func(f *Frontend) value { return text{&f.Discover.Meta, "word", orEmpty(metaKey)} },
		},
		{
			key: "discover.fabio", def: "false",
			doc: "Take fabio's tags `urlprefix-HOST/PATH` for claims. See [from fabio](guides/from-fabio.md).",
			at:  func(f *Frontend) value { return yesNo{&f.Discover.Fabio} },
		},
	}
}

// allowSettings is the table of one of discover.allow.
func allowSettings() []setting[Allow] {
	return []setting[Allow]{
		{
			key: "host", derived: "required",
			doc: "Host that the services may have: exact, `*.example.com` for every host below `example.com`, or `*` for every host. The most specific one that fits a host decides.",
			at:  func(a *Allow) value { return text{&a.Host, "host name", allowHost} },
		},
		{
			key: "services", def: "[]", derived: "required",
			doc: "Names of the services in Consul. `*` stands for any text.",
			at:  func(a *Allow) value { return listOf(&a.Services, "name", pattern) },
		},
	}
}

// profileSettings is the table of the settings of one profile: those of a service, except
// what each service has of its own.
func profileSettings() []setting[Profile] {
	table := []setting[Profile]{
		{
			key: "name", derived: "required",
			doc: "Name of the profile. The one named `default` is for services that choose none.",
			at:  func(p *Profile) value { return text{&p.Name, "name", name} },
		},
		{
			key: "services", def: "[\"*\"]",
			doc: "Names of the services in Consul that may choose the profile. `*` stands for any text.",
			at:  func(p *Profile) value { return listOf(&p.Services, "name", pattern) },
		},
	}
	for _, s := range serviceSettings() {
		if !inProfile(s.key) {
			continue
		}
		at := s.at
		table = append(table, setting[Profile]{key: s.key, def: s.def, doc: s.doc, derived: s.derived, at: func(p *Profile) value { return at(&p.Service) }})
	}
	return table
}

// inProfile reports whether a key of a service is one of a profile, too.
func inProfile(key string) bool {
	if strings.HasPrefix(key, "preview.") {
		return false
	}
	switch key {
	case "name", "backend", "bind", "certificates.directory", "mode", "tags", "filter", "frontend_extra", "close_on_role_change":
		return false
	}
	return true
}

func allowHost(s string) error {
	if s == "*" {
		return nil
	}
	return routeHost(s)
}

func pattern(s string) error {
	if strings.Count(s, "*") > 3 {
		return errors.New("may have three '*' at most")
	}
	if s == "*" {
		return nil
	}
	return name(strings.ReplaceAll(s, "*", ""))
}

// metaKey passes what Consul takes for a key of meta.
func metaKey(s string) error {
	if !isToken(s) {
		return errors.New("must be a key of service meta: letters, digits, '-', '_' and '.'")
	}
	return nil
}

// discoverRelations reports what is wrong with what a frontend takes from Consul.
func (l *loader) discoverRelations(f *Frontend, key string) {
	d, at := f.Discover, key+".discover"
	for i, a := range d.Allow {
		one := fmt.Sprintf("%s.allow[%d]", at, i)
		if a.Host == "" {
			l.conflict("required", "", one+".host", one)
		}
		if len(a.Services) == 0 {
			l.conflict("required", "", one+".services", one)
		}
	}
	switch {
	case !d.isOn() && len(d.Allow) > 0:
		l.conflict("needs discover.tag_prefix, discover.meta or discover.fabio", "", at+".allow", at+".tag_prefix", at+".meta", at+".fabio", key)
	case !d.isOn():
	case f.Mode == TCP:
		l.conflict("needs mode http", "", at, at+".tag_prefix", at+".meta", at+".fabio", key)
	case len(d.Allow) == 0:
		l.conflict("required: it names the services that may have a host", "", at+".allow", at+".tag_prefix", at+".meta", at+".fabio", key)
	}
}

// profileRelations reports profiles that can't be.
func (l *loader) profileRelations() {
	seen := map[string]bool{}
	for i := range l.cfg.Profiles {
		p, key := &l.cfg.Profiles[i], l.profileKeys[i]
		switch {
		case p.Name == "":
			l.conflict("required", "", key+".name", key)
		case seen[p.Name]:
			l.conflict("is listed twice", p.Name, key+".name", key)
		}
		seen[p.Name] = true
	}
}

// RouteServices returns the services of the routes that the settings give a frontend, by
// their keys.
func (c Config) RouteServices(frontend string) map[string]string {
	out := map[string]string{}
	for _, f := range c.Frontends {
		if f.Name != frontend {
			continue
		}
		for _, r := range f.Routes {
			x := r.compiled()
			out[x.Key()] = x.Backend
		}
	}
	return out
}

// Rules returns what services may claim.
func (c Config) Rules() route.Rules {
	r := route.Rules{
		ProfileMeta: c.Discovery.ProfileMeta, Grace: c.Discovery.Grace, MaxServices: c.Discovery.MaxServices, MaxRoutes: c.Discovery.MaxRoutes,
		Own: map[string]string{}, Refuse: c.refuse(),
	}
	for _, f := range c.Frontends {
		if !f.Discover.isOn() {
			continue
		}
		rules := route.FrontendRules{Name: f.Name, TagPrefix: f.Discover.TagPrefix, Meta: f.Discover.Meta, Fabio: f.Discover.Fabio, Settings: map[string]bool{}}
		for _, a := range f.Discover.Allow {
			host := a.Host
			if host != "*" {
				host, _ = route.ParseHost(host) // Load has checked it
			}
			for _, s := range a.Services {
				rules.Allow = append(rules.Allow, route.Allow{Host: host, Services: s})
			}
		}
		for _, own := range f.Routes {
			rules.Settings[own.compiled().Key()] = true
		}
		r.Frontends = append(r.Frontends, rules)
	}
	for _, p := range c.Profiles {
		r.Profiles = append(r.Profiles, route.ProfileRules{Name: p.Name, Services: p.Services})
	}
	for _, s := range c.Services {
		if s.Preview.Of != "" {
			continue
		}
		why := ""
		if _, several := r.Own[s.Name]; several {
			why = "has several backends in the settings"
		} else if s.Mode != HTTP {
			why = "is in mode tcp in the settings"
		}
		r.Own[s.Name] = why
	}
	return r
}

// refuse returns what says why a service can't have a backend of its name.
func (c Config) refuse() func(service string) error {
	taken := map[string]bool{"statistics": true}
	for _, s := range c.Services {
		taken[s.Backend], taken[s.Backend+".front"] = true, true
	}
	for _, f := range c.Frontends {
		taken[f.Name] = true
	}
	for _, name := range c.Taken {
		taken[name] = true
	}
	return func(service string) error {
		if err := name(service); err != nil {
			return fmt.Errorf("has a name that no backend can have: it %w", err)
		}
		if taken[service] || strings.HasPrefix(service, "pointsman.") || isOwn(service) {
			return errors.New("has the name of something else in haproxy.cfg")
		}
		return nil
	}
}

// With returns the settings with what was found in Consul: the services after those of
// the file, with the settings of their profiles, and the routes after those of their
// frontends.
func (c Config) With(found route.Found) Config {
	if len(found.Services)+len(found.Routes)+len(found.Gone) == 0 {
		return c
	}
	c.Frontends = c.Routed(found)
	c.Services = slices.Clone(c.Services)
	apart := make(map[string][]string, len(c.Profiles))
	for _, p := range c.Profiles {
		apart[p.Name] = p.Apart()
	}
	for _, s := range found.Services {
		c.Services = append(c.Services, c.discovered(s, apart))
	}
	for _, s := range found.Gone {
		isOther := func(o Service) bool { return o.Backend == s.Name }
		if !slices.ContainsFunc(c.Services, isOther) && !slices.Contains(c.Taken, s.Name) {
			c.Gone = append(slices.Clip(c.Gone), c.discovered(s, apart))
		}
	}
	c.Found = found
	return c
}

// Routed is the frontends with the routes that were found.
func (c Config) Routed(found route.Found) []Frontend {
	backends := map[string]string{}
	for _, s := range c.Services {
		if s.Preview.Of == "" {
			backends[s.Name] = s.Backend
		}
	}
	for _, s := range found.Services {
		backends[s.Name] = s.Name
	}
	frontends := slices.Clone(c.Frontends)
	for i := range frontends {
		f := &frontends[i]
		routes, sources := slices.Clone(f.Found), slices.Clone(f.Sources)
		for _, r := range found.Routes {
			if backend, has := backends[r.Service]; has && r.Frontend == f.Name {
				routes, sources = append(routes, r.Route(backend)), append(sources, r.Source)
			}
		}
		f.Found, f.Sources = routes, sources
	}
	return frontends
}

// RoutedBackend returns the backend of a service to which a route that was found may lead, as
// Routed does.
func (c Config) RoutedBackend(found route.Found, service string) (backend string, has bool) {
	if slices.ContainsFunc(found.Services, func(s route.FoundService) bool { return s.Name == service }) {
		return service, true
	}
	for _, s := range c.Services {
		if s.Name == service && s.Preview.Of == "" {
			backend, has = s.Backend, true // of several the last one
		}
	}
	return backend, has
}

// discovered is the settings of one service. apart is of the profiles, by their names.
func (c Config) discovered(s route.FoundService, apart map[string][]string) Service {
	profile := c.profile(s.Profile)
	service := profile.Service
	service.Name, service.Backend = s.Name, s.Name
	switch keys := apart[profile.Name]; {
	case len(keys) > 0:
		service.ByReload = fmt.Sprintf("profile %s has %s", profile.Name, strings.Join(keys, ", "))
	case s.ByReload:
		service.ByReload = "it has chosen another profile"
	default:
		service.Profile = profile.Name
	}
	return service
}

// profile is the settings of a discovered service. Load has seen to the default one.
func (c Config) profile(name string) (profile Profile) {
	for _, p := range c.Profiles {
		switch p.Name {
		case name:
			return p
		case DefaultProfile:
			profile = p
		}
	}
	return profile
}

// deriveProfiles adds the default profile where services may be discovered and the file
// has none.
func (l *loader) deriveProfiles() {
	isOn := slices.ContainsFunc(l.cfg.Frontends, func(f Frontend) bool { return f.Discover.isOn() })
	if !isOn || slices.ContainsFunc(l.cfg.Profiles, func(p Profile) bool { return p.Name == DefaultProfile }) {
		return
	}
	p, err := defaults(profileSettings())
	if err != nil {
		l.problems = append(l.problems, err)
	}
	p.Name = DefaultProfile
	l.addProfile(profilesKey+"["+DefaultProfile+"]", p)
}

func (l *loader) addProfile(key string, p Profile) {
	p.Service.Mode = HTTP
	l.deriveService(key, &p.Service)
	l.cfg.Profiles = append(l.cfg.Profiles, p)
	l.profileKeys = append(l.profileKeys, key)
}

// IsShared reports whether all that a backend has of the profile is the same for each
// service, and may stand in a named defaults section: then HAProxy 3.4 adds and deletes
// backends as it runs.
func (p Profile) IsShared() bool { return len(p.Apart()) == 0 }

// Apart returns the keys of the settings for which that is not so. An operator's own lines may
// be of any kind.
func (p Profile) Apart() (keys []string) {
	a, b := p.Service, p.Service
	a.Backend, b.Backend = "a", "b"
	switch {
	case a.Slots.Force:
		keys = append(keys, "slots.force")
	case a.Static():
		keys = append(keys, "balance")
	}
	for _, x := range policies() {
		var lines []string
		if x.backend != nil {
			lines = x.backend(&a)
		}
		if x.section != nil && x.section(&a) != "" || len(lines) > 0 && (x.apart || !slices.Equal(lines, x.backend(&b))) {
			keys = append(keys, x.key)
		}
	}
	if len(a.BackendExtra) > 0 {
		keys = append(keys, "backend_extra")
	}
	return keys
}

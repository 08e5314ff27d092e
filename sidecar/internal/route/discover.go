package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Sources of a route.
const (
	FromSettings = "settings"
	FromTag      = "tag"
	FromMeta     = "meta"
	FromFabio    = "fabio"
)

// FrontendRules is how one frontend takes routes from Consul.
type FrontendRules struct {
	Name      string
	TagPrefix string // of tags that claim a route; "" is none
	Meta      string // the key of the meta that claims routes; "" is none
	Fabio     bool   // fabio's tags count, too
	Allow     []Allow
	Settings  map[string]bool // keys of the routes of the settings
	// Left is the services of routes that the settings had before, by key. Each is the
	// owner of its route if it claims it.
	Left map[string]string
}

// ProfileRules is which services may choose a profile.
type ProfileRules struct {
	Name     string
	Services []string // patterns, as in Allow
}

// Rules is what an operator allows of what services say.
type Rules struct {
	Frontends   []FrontendRules // those that take routes from Consul
	Profiles    []ProfileRules
	ProfileMeta string
	Own         map[string]string // services of the settings, with why no route may lead there; "" where one may
	Refuse      func(service string) error
	Grace       time.Duration // how long a route stays that no instance claims, and a backend without routes
	MaxServices int
	MaxRoutes   int // of one service
}

// Claim is what instances of a service say: a tag, or a key of their meta. It may be
// any text.
type Claim struct {
	Meta  string // the key; "" is a tag
	Text  string
	Since uint64 // the lowest CreateIndex of the instances that say it
}

// Candidate is a service that may claim routes.
type Candidate struct {
	Service string
	Known   bool // Consul has answered; else what it had stays
	Claims  []Claim
}

// FoundService is a service that is not in the settings and has a backend.
type FoundService struct {
	Name    string
	Profile string    // "" is the default
	Idle    time.Time // since when it has no route; zero: it has one
	Changed time.Time // when its profile last changed, if it may not change again yet; else zero
	// ByReload is set once its profile has changed: HAProxy cannot change a backend that it
	// runs.
	ByReload bool
}

// FoundRoute is a route of a frontend that instances of a service claim.
type FoundRoute struct {
	Frontend   string
	Host, Path string // as in Route
	Strip      int
	Service    string
	Source     string
	Unclaimed  time.Time // since when no instance claims it; zero: one does
}

// Route is the route to a backend.
func (f FoundRoute) Route(backend string) Route {
	return Route{Host: f.Host, Path: f.Path, Strip: f.Strip, Backend: backend}
}

func (f FoundRoute) key() string { return f.Route("").Key() }

// Found is all that was found in Consul, sorted. No FoundRoute is changed: what is found next
// has those that stay as they are, so that of 10,000 the others are found by comparing addresses.
type Found struct {
	Services []FoundService
	Routes   []*FoundRoute
	// Gone is the services that were found before, since Idle, and whose backend HAProxy may
	// still have.
	Gone []FoundService
}

const (
	// goneKept is how long a service that has gone is remembered: its last sessions have
	// ended by then.
	goneKept = time.Hour
	maxGone  = 100
)

// After is what is found now, with what is remembered of what was found before.
func (f Found) After(before Found, now time.Time) Found {
	f.Services, f.Gone = slices.Clone(f.Services), nil
	next := 0
	add := func(s FoundService, since time.Time) {
		i, is := next, next < len(f.Services) && f.Services[next].Name == s.Name // nearly always
		if !is {
			i, is = slices.BinarySearchFunc(f.Services, s.Name, func(is FoundService, name string) int { return cmp.Compare(is.Name, name) })
		}
		if is {
			next = i + 1
			// HAProxy may still have the backend with the other profile.
			f.Services[i].ByReload = f.Services[i].ByReload || f.Services[i].Profile != s.Profile
			return
		}
		if s.Idle = since; !s.ByReload && now.Sub(since) < goneKept && len(f.Gone) < maxGone {
			f.Gone = append(f.Gone, s)
		}
	}
	for _, s := range before.Services {
		add(s, now)
	}
	for _, s := range before.Gone {
		if s.Idle.IsZero() { // haproxy.cfg does not say it
			s.Idle = now
		}
		add(s, s.Idle)
	}
	return f
}

// HasServicesOf reports whether HAProxy gets the same backends of both.
func (f Found) HasServicesOf(o Found) bool {
	return slices.EqualFunc(f.Services, o.Services, func(a, b FoundService) bool {
		return a.Name == b.Name && a.Profile == b.Profile && a.ByReload == b.ByReload
	})
}

// Next is when something is to be removed; zero: never.
func (f Found) Next(grace time.Duration) (next time.Time) {
	earlier := func(t time.Time) {
		if t = t.Add(grace); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, s := range f.Services {
		if !s.Idle.IsZero() {
			earlier(s.Idle)
		}
		if !s.Changed.IsZero() {
			earlier(s.Changed)
		}
	}
	for _, r := range f.Routes {
		if !r.Unclaimed.IsZero() {
			earlier(r.Unclaimed)
		}
	}
	return next
}

// Problem is something that a service says and that is not followed.
type Problem struct {
	Frontend string `json:"frontend,omitempty"`
	Service  string `json:"service"`
	Claim    string `json:"claim"` // a route, or the text that is none, quoted
	Owner    string `json:"owner,omitempty"`
	Reason   string `json:"reason"`
}

// String is the problem for people. Service, claim and owner are as others have written
// them.
func (p Problem) String() string {
	text := "service " + p.Service
	if p.Claim != "" {
		text += " claims " + p.Claim
	}
	if p.Frontend != "" {
		text += " of frontend " + p.Frontend
	}
	text += ": " + p.Reason
	if p.Owner != "" {
		text += " (" + p.Owner + ")"
	}
	return text
}

const (
	// maxProblems bounds the problems of one service.
	maxProblems = 10
	// maxServiceName is longer than what a backend's name may be.
	maxServiceName = 128
)

// Takes reports whether a service with these tags may claim routes: whether its
// instances are to be looked at.
func (r Rules) Takes(service string, tags []string) bool {
	if len(service) > maxServiceName {
		return false
	}
	return slices.ContainsFunc(r.Frontends, func(f FrontendRules) bool {
		return slices.ContainsFunc(f.Allow, func(a Allow) bool { return matches(a.Services, service) }) &&
			(f.Meta != "" || slices.ContainsFunc(tags, f.isClaim))
	})
}

func (f FrontendRules) isClaim(tag string) bool {
	return f.TagPrefix != "" && strings.HasPrefix(tag, f.TagPrefix) || f.Fabio && strings.HasPrefix(tag, fabioPrefix)
}

// Prefixes is what tags that are claims begin with, and Meta the keys of meta that
// count.
func (r Rules) Prefixes() (tags, meta []string) {
	add := func(to *[]string, s string) {
		if s != "" && !slices.Contains(*to, s) {
			*to = append(*to, s)
		}
	}
	for _, f := range r.Frontends {
		add(&tags, f.TagPrefix)
		add(&meta, f.Meta)
		if f.Fabio {
			add(&tags, fabioPrefix)
		}
	}
	if len(r.Frontends) > 0 {
		add(&meta, r.ProfileMeta)
	}
	return tags, meta
}

// Watch returns the services whose instances are to be looked at besides those of the
// settings: first those that have routes already, then those named, by name.
func (r Rules) Watch(named []string, before Found) (services []string, problems []Problem) {
	if len(r.Frontends) == 0 {
		return nil, nil
	}
	seen := map[string]bool{}
	add := func(service string) {
		if _, own := r.Own[service]; own || seen[service] {
			return
		}
		seen[service] = true
		if err := r.Refuse(service); err != nil {
			problems = append(problems, Problem{Service: fmt.Sprintf("%.100q", service), Reason: "the service " + err.Error()})
			return
		}
		if len(services) < r.MaxServices {
			services = append(services, service)
			return
		}
		problems = append(problems, Problem{Service: service, Reason: fmt.Sprintf("more than %d services claim routes (discovery.max_services)", r.MaxServices)})
	}
	for _, s := range before.Services {
		add(s.Name)
	}
	for _, s := range before.Routes {
		add(s.Service)
	}
	for _, s := range slices.Sorted(slices.Values(named)) {
		add(s)
	}
	slices.Sort(services)
	return services, problems[:min(len(problems), 10*maxProblems)]
}

// discovery is one run of Discover.
type discovery struct {
	Rules
	now        time.Time
	settled    bool
	before     Found
	candidates []Candidate
	problems   []Problem
	told       map[string]int // how many problems of a service
	left       map[string]int // how many routes a service may still have
}

// Discover returns what is found of the candidates after what was found before. It is the
// same for all who see the same. Before it is settled, because the answer about
// a candidate is awaited, no route gets a new owner, and none that is unclaimed goes:
// who sees the answers in another order would choose another.
func Discover(rules Rules, now time.Time, settled bool, before Found, candidates []Candidate) (Found, []Problem) {
	d := discovery{Rules: rules, now: now, settled: settled, before: before, told: map[string]int{}, left: map[string]int{}}
	d.candidates = slices.Clone(candidates)
	slices.SortFunc(d.candidates, func(a, b Candidate) int { return cmp.Compare(a.Service, b.Service) })
	var after Found
	for _, f := range rules.Frontends {
		after.Routes = append(after.Routes, d.frontend(f)...)
	}
	after.Services = d.services(after.Routes)
	return after, d.problems
}

func (d *discovery) tell(p Problem) {
	if d.told[p.Service]++; d.told[p.Service] <= maxProblems {
		d.problems = append(d.problems, p)
	}
}

// frontend returns the routes of one frontend.
func (d *discovery) frontend(f FrontendRules) (out []*FoundRoute) {
	was, owners := map[string]*FoundRoute{}, map[string]string{}
	for _, r := range d.before.Routes {
		if r.Frontend == f.Name {
			was[r.key()], owners[r.key()] = r, r.Service
		}
	}
	for key, service := range f.Left {
		if _, isFound := owners[key]; !isFound {
			owners[key] = service
		}
	}
	claimed := map[[2]string]*FoundRoute{} // by service and key
	var claimants []Claimant
	for _, c := range d.candidates {
		claimant := Claimant{Service: c.Service}
		for _, r := range d.claims(f, c, was, &claimant.Since) {
			claimed[[2]string{c.Service, r.key()}] = r
			claimant.Routes = append(claimant.Routes, r.Route(c.Service))
		}
		claimants = append(claimants, claimant)
	}
	owned, conflicts := Assign(f.Settings, owners, claimants, f.Allow)
	for _, c := range conflicts {
		d.tell(Problem{Frontend: f.Name, Service: c.Service, Claim: c.Route.String(), Owner: c.Owner, Reason: c.Reason})
	}
	for key, r := range owned {
		out = append(out, claimed[[2]string{r.Backend, key}])
	}
	isAllowed := allows(f.Allow)
	for key, r := range was {
		if _, is := owned[key]; is || f.Settings[key] || !isAllowed(cmp.Or(r.Host, anyHost), r.Service) || d.refused(r.Service) != nil {
			continue
		}
		if r.Unclaimed.IsZero() {
			over := *r
			over.Unclaimed = d.now
			r = &over
		}
		if d.now.Sub(r.Unclaimed) < d.Grace || !d.settled { // it may be about to get a new owner
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *FoundRoute) int { return cmp.Compare(a.key(), b.key()) })
	return out
}

// refused is why no route may lead to a service.
func (d *discovery) refused(service string) error {
	if why, own := d.Own[service]; own {
		if why != "" {
			return fmt.Errorf("%s", why)
		}
		return nil
	}
	return d.Refuse(service)
}

// claims returns the routes of a frontend that a candidate claims, those it has first.
func (d *discovery) claims(f FrontendRules, c Candidate, was map[string]*FoundRoute, since *uint64) (routes []*FoundRoute) {
	if !c.Known { // what it has stays
		for _, r := range was {
			if r.Service == c.Service && d.refused(c.Service) == nil {
				routes = append(routes, r)
			}
		}
		slices.SortFunc(routes, func(a, b *FoundRoute) int { return cmp.Compare(a.key(), b.key()) })
		return routes
	}
	claimed := false
	for _, claim := range c.Claims {
		for _, said := range f.read(claim) {
			if said.err != nil {
				d.tell(Problem{Frontend: f.Name, Service: c.Service, Claim: fmt.Sprintf("%.100q", said.text), Reason: said.err.Error()})
				continue
			}
			r := said.route
			if r.Service = c.Service; !claimed || claim.Since < *since {
				claimed, *since = true, claim.Since
			}
			routes = append(routes, &r)
		}
	}
	if err := d.refused(c.Service); err != nil && claimed {
		d.tell(Problem{Frontend: f.Name, Service: c.Service, Claim: routes[0].Route("").String(), Reason: "the service " + err.Error()})
		return nil
	}
	isNew := func(r *FoundRoute) int {
		old, had := was[r.key()]
		switch {
		case had && old.Service == c.Service && old.Strip == r.Strip:
			return 0
		case had && old.Service == c.Service:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(routes, func(a, b *FoundRoute) int {
		return cmp.Or(cmp.Compare(isNew(a), isNew(b)), cmp.Compare(a.key(), b.key()), cmp.Compare(a.Strip, b.Strip), cmp.Compare(a.Source, b.Source))
	})
	return d.bounded(f, c.Service, routes, was)
}

// bounded leaves out what is too many, what is claimed twice, and what must wait.
func (d *discovery) bounded(f FrontendRules, service string, routes []*FoundRoute, was map[string]*FoundRoute) (out []*FoundRoute) {
	if _, counted := d.left[service]; !counted {
		d.left[service] = d.MaxRoutes
	}
	has := map[string]int{}
	left := 0
	for _, r := range routes {
		key := r.key()
		if strip, again := has[key]; again {
			if strip != r.Strip {
				d.tell(Problem{Frontend: f.Name, Service: service, Claim: r.Route("").String(), Owner: service, Reason: "an instance of the service claims it with another strip"})
			}
			continue
		}
		if old, owned := was[key]; !d.settled && (!owned || old.Service != service) {
			continue
		}
		if d.left[service] == 0 {
			left++
			continue
		}
		d.left[service]--
		has[key] = r.Strip
		out = append(out, r)
	}
	if left > 0 {
		d.tell(Problem{Frontend: f.Name, Service: service, Claim: fmt.Sprintf("%d more routes", left), Reason: fmt.Sprintf("the service claims more than %d routes (discovery.max_routes)", d.MaxRoutes)})
	}
	return out
}

// said is one route that a claim names, or why it is none.
type said struct {
	text  string
	route FoundRoute
	err   error
}

// read takes what a claim says to one frontend.
func (f FrontendRules) read(c Claim) (all []said) {
	add := func(source, text string, r Route, err error) {
		all = append(all, said{text, FoundRoute{Frontend: f.Name, Host: r.Host, Path: r.Path, Strip: r.Strip, Source: source}, err})
	}
	switch {
	case c.Meta != "":
		if c.Meta != f.Meta {
			break
		}
		for text := range strings.SplitSeq(c.Text, ";") {
			if text = strings.TrimSpace(text); text != "" {
				r, err := ParseClaim(text)
				add(FromMeta, text, r, err)
			}
		}
	case f.TagPrefix != "" && strings.HasPrefix(c.Text, f.TagPrefix):
		r, err := ParseClaim(strings.TrimPrefix(c.Text, f.TagPrefix))
		add(FromTag, c.Text, r, err)
	case f.Fabio:
		if r, is, err := ParseFabio(c.Text); is {
			add(FromFabio, c.Text, r, err)
		}
	}
	return all
}

// services returns the services that have a backend.
func (d *discovery) services(routes []*FoundRoute) (out []FoundService) {
	routed := map[string]bool{}
	for _, r := range routes {
		routed[r.Service] = true
	}
	was := map[string]FoundService{}
	for _, s := range d.before.Services {
		was[s.Name] = s
		if _, own := d.Own[s.Name]; own || routed[s.Name] || d.Refuse(s.Name) != nil {
			continue
		}
		if s.Idle.IsZero() {
			s.Idle = d.now
		}
		if d.now.Sub(s.Idle) < d.Grace {
			out = append(out, d.profiled(s))
		}
	}
	for name := range routed {
		if _, own := d.Own[name]; own {
			continue
		}
		before, had := was[name]
		if !had {
			out = append(out, FoundService{Name: name, Profile: d.profile(name, "")})
			continue
		}
		before.Idle = time.Time{}
		out = append(out, d.profiled(before))
	}
	slices.SortFunc(out, func(a, b FoundService) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// profiled is a service with the profile of now. Each change takes a reload: one that
// instances make soon after another waits.
func (d *discovery) profiled(s FoundService) FoundService {
	if d.now.Sub(s.Changed) >= d.Grace {
		s.Changed = time.Time{}
	}
	profile := d.profile(s.Name, s.Profile)
	if isAllowed := d.allowed(s.Name, s.Profile) == s.Profile; profile == s.Profile || isAllowed && !s.Changed.IsZero() {
		return s
	}
	s.Profile, s.Changed, s.ByReload = profile, d.now, true
	return s
}

// profile is the one that instances of a service name: that of before while one of them
// does, else that of the instance registered first.
func (d *discovery) profile(service, before string) string {
	i := slices.IndexFunc(d.candidates, func(c Candidate) bool { return c.Service == service })
	if i < 0 || !d.candidates[i].Known {
		return d.allowed(service, before)
	}
	chosen, since, stays := "", uint64(0), false
	for _, c := range d.candidates[i].Claims {
		switch {
		case c.Meta == "" || c.Meta != d.ProfileMeta:
		case c.Text == "" || d.allowed(service, c.Text) != c.Text:
			d.tell(Problem{Service: service, Claim: fmt.Sprintf("%s %.100q", d.ProfileMeta, c.Text), Reason: "no profile of the settings that the service may choose; it gets the default"})
		case c.Text == before:
			stays = true // the others may be wrong
		case chosen == "" || c.Since < since:
			chosen, since = c.Text, c.Since
		}
	}
	if stays {
		return before
	}
	return chosen
}

// allowed is a profile if the service may choose it, else the default.
func (d *discovery) allowed(service, profile string) string {
	for _, p := range d.Profiles {
		if p.Name == profile && slices.ContainsFunc(p.Services, func(s string) bool { return matches(s, service) }) {
			return profile
		}
	}
	return ""
}

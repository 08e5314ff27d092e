package route

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Finder discovers again and again, with one set of rules, and gives what Discover gives.
// It looks only at the services that a change can concern: those that say something else,
// those of which something is over, and those that share a route with one of them. The zero
// Finder has seen nothing.
type Finder struct {
	found    Found                // what the last look gave; nil routes: look at all
	said     map[string]Candidate // in the last look
	keys     map[string][]string  // by service, the routes that it claims or has, of any frontend
	services map[string][]string  // by route, the services
	problems map[string][]Problem // by service

	unclaimed []*FoundRoute // of found
}

// Find is Discover. The rules are those of the last call, or Forget was called between.
// What candidates claim is not changed afterwards.
func (f *Finder) Find(rules Rules, now time.Time, settled bool, before Found, candidates []Candidate) (Found, []Problem) {
	if !settled || !isSame(before.Routes, f.found.Routes) {
		return f.all(rules, now, settled, before, candidates)
	}
	concerned := f.concerned(rules, now, before, candidates)
	switch {
	case len(concerned) > len(candidates)/4+1:
		return f.all(rules, now, settled, before, candidates)
	case len(concerned) == 0:
		f.found = Found{Services: before.Services, Routes: before.Routes}
		return f.found, f.told()
	}
	var part Found
	var oldServices, oldRoutes []int // places
	for i := range before.Services {
		if _, is := concerned[before.Services[i].Name]; is {
			oldServices, part.Services = append(oldServices, i), append(part.Services, before.Services[i])
		}
	}
	for _, i := range f.places(rules, before.Routes, concerned) {
		oldRoutes, part.Routes = append(oldRoutes, i), append(part.Routes, before.Routes[i])
	}
	var claiming []Candidate
	for _, c := range concerned {
		if c != nil {
			claiming = append(claiming, *c)
		}
	}
	part, problems := Discover(rules, now, true, part, claiming)
	for s := range concerned {
		delete(f.said, s)
		delete(f.problems, s)
		f.unlink(s)
	}
	for _, c := range claiming {
		f.said[c.Service] = c
	}
	f.link(rules, part, claiming, problems)
	f.unclaimed = slices.DeleteFunc(f.unclaimed, func(r *FoundRoute) bool { _, is := concerned[r.Service]; return is })
	f.noteUnclaimed(part.Routes)
	f.found = Found{
		Services: replaced(before.Services, oldServices, part.Services, func(a, b FoundService) int { return cmp.Compare(a.Name, b.Name) }),
		Routes:   replaced(before.Routes, oldRoutes, part.Routes, rules.compare),
	}
	return f.found, f.told()
}

// Forget has the next look be at all.
func (f *Finder) Forget() { *f = Finder{} }

func (f *Finder) all(rules Rules, now time.Time, settled bool, before Found, candidates []Candidate) (Found, []Problem) {
	found, problems := Discover(rules, now, settled, before, candidates)
	*f = Finder{said: map[string]Candidate{}, keys: map[string][]string{}, services: map[string][]string{}, problems: map[string][]Problem{}}
	if settled {
		f.found = found
		f.noteUnclaimed(found.Routes)
	}
	for _, c := range candidates {
		f.said[c.Service] = c
	}
	f.link(rules, found, candidates, problems)
	return found, f.told()
}

// isSame reports whether both are one slice. Two without routes are.
func isSame(a, b []*FoundRoute) bool {
	return len(a) == len(b) && b != nil && (len(a) == 0 || &a[0] == &b[0])
}

// concerned is the services of which a look can find something else than the last one,
// with what they say now; nil is nothing.
func (f *Finder) concerned(rules Rules, now time.Time, before Found, candidates []Candidate) map[string]*Candidate {
	all, news := map[string]*Candidate{}, map[string]*Candidate{}
	var next []string
	add := func(s string) {
		if _, is := all[s]; is {
			return
		}
		says, isNew := news[s]
		if was, had := f.said[s]; had && !isNew {
			says = &was
		}
		all[s], next = says, append(next, s)
	}
	still := 0
	for i := range candidates {
		c := &candidates[i]
		was, had := f.said[c.Service]
		if had {
			still++
		}
		if !had || was.Known != c.Known || !isSameClaims(was.Claims, c.Claims) {
			news[c.Service] = &Candidate{c.Service, c.Known, c.Claims}
		}
	}
	for _, s := range f.gone(candidates, still) {
		news[s] = nil
	}
	for s := range news {
		add(s)
	}
	isOver := func(t time.Time) bool { return !t.IsZero() && now.Sub(t) >= rules.Grace }
	for i := range before.Services {
		if s := &before.Services[i]; isOver(s.Idle) || isOver(s.Changed) {
			add(s.Name)
		}
	}
	for _, r := range f.unclaimed {
		if isOver(r.Unclaimed) {
			add(r.Service)
		}
	}
	for len(next) > 0 {
		s := next[0]
		next = next[1:]
		keys := f.keys[s]
		if c := news[s]; c != nil {
			keys = slices.Concat(keys, rules.keys(*c))
		}
		for _, key := range keys {
			for _, other := range f.services[key] {
				add(other)
			}
		}
	}
	return all
}

// places is where the routes of some services are, in their order.
func (f *Finder) places(rules Rules, routes []*FoundRoute, of map[string]*Candidate) (at []int) {
	for s := range of {
		for _, key := range f.keys[s] {
			for place := range rules.Frontends {
				i, has := slices.BinarySearchFunc(routes, key, func(r *FoundRoute, key string) int {
					return cmp.Or(cmp.Compare(rules.place(r.Frontend), place), cmp.Compare(r.key(), key))
				})
				if has && routes[i].Service == s {
					at = append(at, i)
				}
			}
		}
	}
	slices.Sort(at)
	return at
}

func (f *Finder) noteUnclaimed(routes []*FoundRoute) {
	for _, r := range routes {
		if !r.Unclaimed.IsZero() {
			f.unclaimed = append(f.unclaimed, r)
		}
	}
}

// gone returns the services that said something in the last look and are no candidates any
// more: still is how many are.
func (f *Finder) gone(candidates []Candidate, still int) (gone []string) {
	if still == len(f.said) {
		return nil
	}
	is := make(map[string]bool, len(candidates))
	for _, c := range candidates {
		is[c.Service] = true
	}
	for s := range f.said {
		if !is[s] {
			gone = append(gone, s)
		}
	}
	return gone
}

// isSameClaims is slices.Equal, at once where both are one slice.
func isSameClaims(a, b []Claim) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// keys is the routes that a candidate claims of any frontend.
func (r Rules) keys(c Candidate) (keys []string) {
	for _, f := range r.Frontends {
		for _, claim := range c.Claims {
			for _, said := range f.read(claim) {
				if said.err == nil {
					keys = append(keys, said.route.key())
				}
			}
		}
	}
	return keys
}

// link remembers what a look has found of some services, all that it was about.
func (f *Finder) link(rules Rules, found Found, candidates []Candidate, problems []Problem) {
	for _, c := range candidates {
		f.keys[c.Service] = rules.keys(c)
	}
	for _, r := range found.Routes {
		f.keys[r.Service] = append(f.keys[r.Service], r.key())
	}
	for _, c := range candidates {
		f.share(c.Service)
	}
	for _, r := range found.Routes {
		f.share(r.Service)
	}
	for _, p := range problems {
		f.problems[p.Service] = append(f.problems[p.Service], p)
	}
}

func (f *Finder) share(service string) {
	slices.Sort(f.keys[service])
	f.keys[service] = slices.Compact(f.keys[service])
	for _, key := range f.keys[service] {
		if !slices.Contains(f.services[key], service) {
			f.services[key] = append(f.services[key], service)
		}
	}
}

func (f *Finder) unlink(service string) {
	for _, key := range f.keys[service] {
		rest := slices.DeleteFunc(f.services[key], func(s string) bool { return s == service })
		if f.services[key] = rest; len(rest) == 0 {
			delete(f.services, key)
		}
	}
	delete(f.keys, service)
}

// told is the problems, by service.
func (f *Finder) told() (all []Problem) {
	for _, s := range slices.Sorted(maps.Keys(f.problems)) {
		all = append(all, f.problems[s]...)
	}
	return all
}

// FoundChange is a route of a frontend that was found otherwise than before.
type FoundChange struct {
	Before, Now *FoundRoute // nil: it was not there, or is not
}

// Changes returns the routes of which HAProxy gets something else, in their order. It does
// not depend on since when a route is unclaimed. Both are sorted.
func (r Rules) Changes(found, before Found) (changes []FoundChange) {
	was, is := before.Routes, found.Routes
	if isSame(was, is) {
		return nil
	}
	for len(was) > 0 || len(is) > 0 {
		order := 0
		switch {
		case len(was) == 0:
			order = 1
		case len(is) == 0:
			order = -1
		case was[0] == is[0]: // as nearly all
			was, is = was[1:], is[1:]
			continue
		default:
			order = r.compare(was[0], is[0])
		}
		switch {
		case order < 0:
			changes = append(changes, FoundChange{Before: was[0]})
			was = was[1:]
		case order > 0:
			changes = append(changes, FoundChange{Now: is[0]})
			is = is[1:]
		default:
			if was[0].Strip != is[0].Strip || was[0].Service != is[0].Service || was[0].Source != is[0].Source {
				changes = append(changes, FoundChange{was[0], is[0]})
			}
			was, is = was[1:], is[1:]
		}
	}
	return changes
}

// HasNewOwner reports whether a service has a route that it did not have.
func HasNewOwner(changes []FoundChange) bool {
	return slices.ContainsFunc(changes, func(c FoundChange) bool {
		return c.Now != nil && (c.Before == nil || c.Before.Service != c.Now.Service)
	})
}

// compare is the order of found routes.
func (r Rules) compare(a, b *FoundRoute) int {
	if a.Frontend != b.Frontend {
		return cmp.Or(cmp.Compare(r.place(a.Frontend), r.place(b.Frontend)), cmp.Compare(a.Frontend, b.Frontend))
	}
	return cmp.Compare(a.key(), b.key())
}

// place is the place of a frontend among those of the rules; -1: it is none of them.
func (r Rules) place(frontend string) int {
	return slices.IndexFunc(r.Frontends, func(f FrontendRules) bool { return f.Name == frontend })
}

// replaced is a sorted list with a sorted part in place of the elements at some places.
// What lies between is copied and not looked at.
func replaced[T any](all []T, old []int, part []T, compare func(a, b T) int) []T {
	out, at := make([]T, 0, len(all)-len(old)+len(part)), 0
	keep := func(end int) {
		for len(old) > 0 && old[0] < end {
			out, at, old = append(out, all[at:old[0]]...), old[0]+1, old[1:]
		}
		out, at = append(out, all[at:end]...), end
	}
	for _, one := range part {
		place, _ := slices.BinarySearchFunc(all[at:], one, compare)
		keep(at + place)
		out = append(out, one)
	}
	keep(len(all))
	return out
}

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
}

// Find is Discover. The rules are those of the last call, or Forget was called between.
func (f *Finder) Find(rules Rules, now time.Time, settled bool, before Found, candidates []Candidate) (Found, []Problem) {
	if !settled || !isSame(before.Routes, f.found.Routes) {
		return f.all(rules, now, settled, before, candidates)
	}
	said := make(map[string]Candidate, len(candidates))
	for _, c := range candidates {
		said[c.Service] = c
	}
	concerned := f.concerned(rules, now, before, said)
	if len(concerned) > len(candidates)/4+1 {
		return f.all(rules, now, settled, before, candidates)
	}
	part := Found{
		Services: slices.DeleteFunc(slices.Clone(before.Services), func(s FoundService) bool { return !concerned[s.Name] }),
		Routes:   slices.DeleteFunc(slices.Clone(before.Routes), func(r FoundRoute) bool { return !concerned[r.Service] }),
	}
	var claiming []Candidate
	for s := range concerned {
		if c, is := said[s]; is {
			claiming = append(claiming, c)
		}
	}
	part, problems := Discover(rules, now, true, part, claiming)
	for s := range concerned {
		delete(f.problems, s)
		f.unlink(s)
	}
	f.said = said
	f.link(rules, part, claiming, problems)
	f.found = Found{
		Services: merged(before.Services, part.Services, func(s FoundService) bool { return concerned[s.Name] }, func(a, b FoundService) int { return cmp.Compare(a.Name, b.Name) }),
		Routes:   merged(before.Routes, part.Routes, func(r FoundRoute) bool { return concerned[r.Service] }, rules.compare),
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
	}
	for _, c := range candidates {
		f.said[c.Service] = c
	}
	f.link(rules, found, candidates, problems)
	return found, f.told()
}

// isSame reports whether both are one slice. Two without routes are.
func isSame(a, b []FoundRoute) bool {
	return len(a) == len(b) && b != nil && (len(a) == 0 || &a[0] == &b[0])
}

// concerned is the services of which a look can find something else than the last one.
func (f *Finder) concerned(rules Rules, now time.Time, before Found, said map[string]Candidate) map[string]bool {
	all := map[string]bool{}
	var next []string
	add := func(s string) {
		if !all[s] {
			all[s], next = true, append(next, s)
		}
	}
	for s, c := range said {
		if was, had := f.said[s]; !had || was.Known != c.Known || !slices.Equal(was.Claims, c.Claims) {
			add(s)
		}
	}
	for s := range f.said {
		if _, still := said[s]; !still {
			add(s)
		}
	}
	isOver := func(t time.Time) bool { return !t.IsZero() && now.Sub(t) >= rules.Grace }
	for _, s := range before.Services {
		if isOver(s.Idle) || isOver(s.Changed) {
			add(s.Name)
		}
	}
	for _, r := range before.Routes {
		if isOver(r.Unclaimed) {
			add(r.Service)
		}
	}
	for len(next) > 0 {
		s := next[0]
		next = next[1:]
		for _, key := range slices.Concat(f.keys[s], rules.keys(said[s])) {
			for _, other := range f.services[key] {
				add(other)
			}
		}
	}
	return all
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

// HasNewOwner reports whether a service has a route that it did not have.
func (r Rules) HasNewOwner(found, before Found) bool {
	was := before.Routes
	for _, one := range found.Routes {
		for len(was) > 0 && !isSameRoute(was[0], one) && r.compare(was[0], one) < 0 {
			was = was[1:]
		}
		if len(was) == 0 || !isSameRoute(was[0], one) || was[0].Service != one.Service {
			return true
		}
		was = was[1:]
	}
	return false
}

func isSameRoute(a, b FoundRoute) bool {
	return a.Host == b.Host && a.Path == b.Path && a.Frontend == b.Frontend
}

// compare is the order of found routes.
func (r Rules) compare(a, b FoundRoute) int {
	if a.Frontend != b.Frontend {
		place := func(name string) int {
			return slices.IndexFunc(r.Frontends, func(f FrontendRules) bool { return f.Name == name })
		}
		return cmp.Compare(place(a.Frontend), place(b.Frontend))
	}
	return cmp.Compare(a.key(), b.key())
}

// merged is a sorted list without what is old, and with a sorted part. Long
// lists are copied, and not compared element by element.
func merged[T any](all, part []T, isOld func(T) bool, compare func(a, b T) int) []T {
	out := make([]T, 0, len(all)+len(part))
	keep := func(some []T) {
		for _, one := range some {
			if !isOld(one) {
				out = append(out, one)
			}
		}
	}
	for _, one := range part {
		place, _ := slices.BinarySearchFunc(all, one, compare)
		keep(all[:place])
		out, all = append(out, one), all[place:]
	}
	keep(all)
	return out
}

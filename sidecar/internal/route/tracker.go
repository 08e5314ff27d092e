package route

import "time"

// Tracker looks again and again at what services claim: what is found, when that is made,
// and for which services Consul has not answered. The zero Tracker has seen nothing.
type Tracker struct {
	Finder    Finder
	Pace      Pace
	Unheard   Unheard
	IsSettled bool // in the last look: nothing was awaited that may claim a route
}

// Look is what one look of a Tracker has found.
type Look struct {
	Found    Found
	Problems []Problem
	IsDue    bool          // it is to be made now; else it waits for more
	HasHeard bool          // if it is due: Consul has answered for more services since the one before
	Again    time.Duration // until the next look; if this one is due at most: see Found.Until
}

// Look looks at what the candidates claim now, by the rules of the last call or after
// Finder.Forget. isNamed says that all services are known that may claim a route.
func (t *Tracker) Look(rules Rules, now time.Time, isNamed bool, before Found, candidates []Candidate) (l Look) {
	t.IsSettled, l.Again = t.Pace.Settled(candidates, isNamed, now)
	l.Found, l.Problems = t.Finder.Find(rules, now, t.IsSettled, before, candidates)
	if wait := t.Pace.Gathers(rules, l.Found, before, now); wait > 0 {
		l.Again = min(l.Again, wait)
		return l
	}
	unheard := t.Unheard
	t.Unheard = unheard.After(candidates, t.IsSettled)
	l.IsDue, l.HasHeard = true, !t.Unheard.Equal(unheard)
	return l
}

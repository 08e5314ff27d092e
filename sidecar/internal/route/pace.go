package route

import (
	"maps"
	"time"
)

// Anyone whose services may claim routes can make a change.
const (
	// GatherTime is from a change of owners or services until it is made, for more of them.
	GatherTime = 50 * time.Millisecond
	// ServicesInterval is between two changes of services, at least.
	ServicesInterval = time.Second
	// SettleTime is how long a new route waits for the first answers about other services
	// that may claim it, too.
	SettleTime = 5 * time.Second
)

// Pace is when what was found is made, from one look to the next. The zero Pace has seen
// nothing.
type Pace struct {
	since   map[string]time.Time // by service, since when its first answer is awaited
	waiting time.Time            // since when routes are held up by that; zero: they are not
	changed time.Time            // when the services last changed
	other   time.Time            // since when other owners or services are found, which wait; zero: none do
}

// ServicesChanged takes that other services were made of what was found.
func (p *Pace) ServicesChanged(now time.Time) { p.changed = now }

// Settled reports whether nothing is awaited that may claim a route, and else how long it
// is waited for: no longer for several services that come one after the other than for one.
// isNamed says that all services are known that may claim one.
func (p *Pace) Settled(candidates []Candidate, isNamed bool, now time.Time) (settled bool, again time.Duration) {
	again = time.Hour
	since := map[string]time.Time{}
	isWaiting := false
	for _, c := range candidates {
		if c.Known {
			continue
		}
		at, was := p.since[c.Service]
		if !was {
			at = now
		}
		since[c.Service] = at
		if wait := at.Add(SettleTime).Sub(now); wait > 0 {
			isWaiting, again = true, min(again, wait)
		}
	}
	p.since = since
	if !isWaiting || !isNamed {
		p.waiting = time.Time{}
		return isNamed, again
	}
	if p.waiting.IsZero() {
		p.waiting = now
	}
	if wait := p.waiting.Add(SettleTime).Sub(now); wait > 0 {
		return false, min(again, wait)
	}
	return true, again
}

// Gathers is how long what is found waits for more. Of two services that claim a route at
// one moment, all load balancers are to see both before one of them gets it. Other services
// may take a reload.
func (p *Pace) Gathers(rules Rules, found, before Found, now time.Time) (wait time.Duration) {
	hasServices := found.HasServicesOf(before)
	if !hasServices || HasNewOwner(rules.Changes(found, before)) {
		if p.other.IsZero() {
			p.other = now
		}
		wait = p.other.Add(GatherTime).Sub(now)
	}
	if !hasServices {
		wait = max(wait, p.changed.Add(ServicesInterval).Sub(now))
	}
	if wait <= 0 {
		p.other = time.Time{}
	}
	return wait
}

// Until is how long it takes until something that was found is to be removed, at most again.
func (f Found) Until(grace time.Duration, settled bool, now time.Time, again time.Duration) time.Duration {
	next := f.Next(grace)
	if next.IsZero() {
		return again
	}
	wait := GatherTime
	if !settled { // what is over may have to stay
		wait = ServicesInterval
	}
	return min(again, max(next.Sub(now), wait))
}

// Unheard is which services may have claimed a route that the sidecar does not know of, since
// it started: those that Consul has not answered for. Of the zero Unheard all may. A value is
// not changed by what follows.
type Unheard struct {
	isNamed  bool // the services are known
	services map[string]bool
}

// After is what is unheard of once the candidates have said this. settled is what Pace.Settled
// reports. A service that comes later has claimed nothing before.
func (u Unheard) After(candidates []Candidate, settled bool) Unheard {
	if !u.isNamed && !settled {
		return u
	}
	now := Unheard{isNamed: true, services: map[string]bool{}}
	for _, c := range candidates {
		if !c.Known && u.Has(c.Service) {
			now.services[c.Service] = true
		}
	}
	return now
}

// Has reports whether a service may have claimed something that is not known.
func (u Unheard) Has(service string) bool { return !u.isNamed || u.services[service] }

// IsEmpty reports whether all that is claimed is known.
func (u Unheard) IsEmpty() bool { return u.isNamed && len(u.services) == 0 }

// Equal reports whether both are the same services.
func (u Unheard) Equal(o Unheard) bool {
	return u.isNamed == o.isNamed && maps.Equal(u.services, o.services)
}

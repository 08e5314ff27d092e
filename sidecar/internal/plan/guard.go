package plan

import (
	"slices"
	"time"
)

// Guard is what is remembered of a backend's losses. Without it Compute judges
// by what it sees.
type Guard struct {
	// Lost is how long ago the servers of Plan.Lost were lost, by name. HAProxy
	// counts that, too, but from its start or reload at most.
	Lost map[string]time.Duration
	// Holds has the servers that wait ForGuard, by name.
	Holds map[string]Hold
}

// Hold is how it stands with a server that is held.
type Hold struct {
	For      time.Duration // how long the hold lasts at most
	Released bool          // an operator has let it go
}

// Loss is a server in maint because its instance is unhealthy.
type Loss struct {
	Backend, Server string
	Ago             time.Duration // since it was taken out
}

// verdict is what the guard thinks of one plan's losses.
type verdict struct {
	atOnce   bool // too many are lost now, for whatever unannounced reason
	inWindow bool // too many are unhealthy now or became so within the window
	together bool // too many would go at once with those that are held
}

// judge counts what is lost unannounced while HAProxy sees it up. What HAProxy
// itself sees down is no matter of opinion.
//
// Those that deregister one by one are not counted over time: so does a fleet
// that is made smaller. But one that was unhealthy, or lost with others, when
// it was held, stays so: an operator who cleans up after a false alarm deregisters it.
func (b *backendPlan) judge(candidates []candidate) verdict {
	fresh, held, unhealthy, recent := 0, 0, 0, b.recentLosses()
	for _, c := range candidates {
		switch {
		case !c.isLoss(), !isAvailable(c.server), b.isSpare(c):
		case b.isHeld(c):
			held++
			unhealthy++
		default:
			fresh++
			if c.reason == Unhealthy {
				unhealthy++
			}
		}
	}
	return verdict{
		atOnce:   b.isMass(fresh, b.available),
		inWindow: b.isMass(unhealthy+recent, b.available+recent),
		together: b.isMass(fresh+held, b.available),
	}
}

// isMass reports whether the losses are more than may be. One at a time is
// never too many.
func (b *backendPlan) isMass(lost, of int) bool {
	return lost > 1 && float64(lost) > b.MaxLossRatio*float64(of)
}

func (b *backendPlan) isHeld(c candidate) bool {
	_, held := b.guard.Holds[c.server.Name]
	return held
}

// isReused reports whether a server that Consul does not list is where another
// service's instance is by now. HAProxy's check does not tell who answers it.
func (b *backendPlan) isReused(c candidate) bool {
	service, found := b.listed[c.server.Addr]
	return found && c.instance == nil && (c.reason == Deregistered || c.reason == Drift) && service != b.Name
}

// holds reports whether the guard keeps a server in traffic. stay is how many
// will be left if it goes. The time of a hold ends it as far as MinServers, an
// operator altogether.
func (v verdict) holds(b *backendPlan, c candidate, stay int) bool {
	hold, isHeld := b.guard.Holds[c.server.Name]
	switch {
	case !c.isLoss(), hold.Released, b.isSpare(c), b.isReused(c):
		return false
	case stay < b.MinServers:
		return true
	case b.Hold > 0 && hold.For >= b.Hold,
		c.reason == Deregistered && b.HoldDeregistered > 0 && hold.For >= b.HoldDeregistered:
		return false
	case isHeld:
		return v.atOnce || v.inWindow || v.together
	case c.reason == Unhealthy:
		return v.atOnce || v.inWindow
	}
	return v.atOnce
}

// recentLosses counts the servers that were lost within the window, and still
// are. The window of a hold goes on with it: that time goes by does not end it.
func (b *backendPlan) recentLosses() (n int) {
	window := b.Window
	for _, h := range b.guard.Holds {
		window = max(window, b.Window+h.For)
	}
	for _, l := range b.losses() {
		if l.Ago < window {
			n++
		}
	}
	return n
}

func (b *backendPlan) losses() (lost []Loss) {
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst == nil || s.Admin != Maint || b.role(inst) != out {
			continue
		}
		lost = append(lost, Loss{Backend: b.Backend, Server: s.Name, Ago: max(s.SinceChange, b.guard.Lost[s.Name])})
	}
	return lost
}

// HeldBackends returns the backends of which a server is held, each once.
func (p Plan) HeldBackends() (backends []string) {
	for _, w := range p.Waiting {
		if w.For == ForGuard && !slices.Contains(backends, w.Backend) {
			backends = append(backends, w.Backend)
		}
	}
	return backends
}

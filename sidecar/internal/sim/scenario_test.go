package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// scenario is what a history is like: which HAProxy, which policy, and what
// happens in it. Not everything happens in each: what hides behind one fault
// shows where that fault is absent.
type scenario struct {
	dynamic   bool     // an HAProxy of 3.0 or newer
	backends  bool     // and of 3.4 or newer
	frontends []string // that lead requests by maps; none: there are no routes
	services  []plan.Service
	rollouts  bool            // documents share the traffic of two versions
	refuses   map[string]bool // backends that take no servers at runtime
	rotation  bool
	damping   map[string]reconcile.Damping

	reloadDebounce, reloadMaxDelay, reloadInterval, reconcile, fileDelay time.Duration
	maxOldWorkers                                                        int

	latency time.Duration // of a call, at most; few take longer
	lag     time.Duration // from a change in Consul to the sidecar, at most
	gap     time.Duration // between two events, at most
	events  int
	weights map[string]int // of the kinds of events
}

// String sums it up.
func (s scenario) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "dynamic %v, backends %v, %d events, latency %s, lag %s, gap %s, reconcile %s, file delay %s, settle %s to %s, reload interval %s, old workers %d",
		s.dynamic, s.backends, s.events, s.latency, s.lag, s.gap, s.reconcile, s.fileDelay, s.reloadDebounce, s.reloadMaxDelay, s.reloadInterval, s.maxOldWorkers)
	for _, svc := range s.services {
		fmt.Fprintf(&out, "\n            %s: checked %v, options %q, static %v, warning %v, slots %v %d/%d, drain %s, replacement %s, min %d, max removal %.2f, window %s, hold %s, shutdown %s, damping %v, refuses %v, discovered %v",
			svc.Name, svc.Checked, svc.Options, svc.Static, svc.Warning, svc.ForceSlots, svc.Slots, svc.Spare, svc.DrainTimeout, svc.ReplacementTimeout, svc.MinServers, svc.MaxLossRatio, svc.Window, svc.Hold, svc.SessionKillAfter, s.damping[svc.Name].Flaps, s.refuses[svc.Backend], isDiscovered(svc))
	}
	if s.rollouts {
		out.WriteString("\n            rollouts")
	}
	if len(s.frontends) > 0 {
		fmt.Fprintf(&out, "\n            routes of %v", s.frontends)
	}
	return out.String()
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func drawScenario(r *rand.Rand) scenario {
	s := scenario{
		dynamic: r.IntN(2) == 0, refuses: map[string]bool{}, damping: map[string]reconcile.Damping{}, rotation: r.IntN(4) == 0,
		reloadDebounce: pick(r, 0, 100*time.Millisecond, time.Second), reloadInterval: pick(r, time.Second, 2*time.Second, 10*time.Second),
		reconcile: pick(r, 2*time.Second, 2*time.Second, 10*time.Second), fileDelay: pick(r, 0, 100*time.Millisecond, 100*time.Millisecond, time.Second),
		maxOldWorkers: pick(r, 1, 3, 3, 0),
		latency:       pick(r, 200*time.Microsecond, 200*time.Microsecond, 5*time.Millisecond, 50*time.Millisecond),
		lag:           pick(r, 5*time.Millisecond, 5*time.Millisecond, 200*time.Millisecond, 3*time.Second),
		gap:           pick(r, 100*time.Millisecond, 2*time.Second, 2*time.Second, 8*time.Second),
		events:        5 + r.IntN(25),
		weights:       map[string]int{},
	}
	s.reloadMaxDelay = max(s.reloadDebounce, pick(r, time.Second, 5*time.Second))
	for _, name := range []string{"api", "web"}[:1+r.IntN(2)] {
		s.services = append(s.services, drawService(r, name))
		if r.IntN(3) == 0 {
			s.damping[name] = reconcile.Damping{Flaps: 1 + r.IntN(3), Min: 2 * time.Second, Max: 20 * time.Second, Forget: time.Minute}
		}
		if s.dynamic && r.IntN(6) == 0 || hasWord(s.services[len(s.services)-1].Options, "namespace") {
			s.refuses[name] = true
		}
	}
	for _, k := range kinds {
		if k.only != nil {
			continue
		}
		if w := 1 + r.IntN(4); k.always || r.IntN(3) == 0 {
			s.weights[k.name] = w
		}
	}
	s.backends = s.dynamic && r.IntN(2) == 0
	s.drawRoutes(r)
	s.rollouts = s.events%4 == 0
	for _, k := range kinds {
		if k.only != nil && k.only(s) && r.IntN(2) == 0 {
			s.weights[k.name] = 1 + r.IntN(4)
		}
	}
	return s
}

func drawService(r *rand.Rand, name string) plan.Service {
	s := plan.Service{
		Name: name, Backend: name, Checked: r.IntN(8) > 0, Options: "check", Warning: r.IntN(2) == 0,
		ForceSlots: r.IntN(8) == 0, Slots: pick(r, 1, 4, 10), Spare: pick(r, 0, 2, 4),
		DrainTimeout: pick(r, 5*time.Second, 30*time.Second), ReplacementTimeout: pick(r, 5*time.Second, 30*time.Second),
		SessionKillAfter: pick(r, 0, 5*time.Second),
		Window:           pick(r, 10*time.Second, 30*time.Second), Hold: pick(r, 0, 0, 20*time.Second),
		MinServers: pick(r, 1, 1, 1, 2), MaxLossRatio: pick(r, 0.3, 0.5, 0.5, 1),
	}
	switch r.IntN(8) {
	case 0:
		s.Static, s.ForceSlots = true, true
	case 1:
		s.Options += " agent-check"
		s.AgentFromMeta = r.IntN(2) == 0
	case 2:
		s.Options += " namespace blue" // as an operator's own template may have it
	}
	if !s.Checked {
		// Only Consul can tell that a server is dead: nothing is held.
		s.Options, s.MinServers, s.MaxLossRatio = strings.TrimPrefix(s.Options, "check"), 0, 1
	}
	return s
}

// trouble is how often the sidecar's calls go wrong now.
type trouble struct {
	lost    float64 // HAProxy does it, and the answer is lost
	dropped float64 // the connection breaks before HAProxy has read it
	refused float64 // HAProxy says no
	ignored float64 // HAProxy says yes to an address, and nothing comes of it
	unread  float64 // HAProxy can't be read
	slow    float64 // a call takes seconds
	uncount float64 // the sessions of old workers can't be counted
	write   float64 // the file can't be written
	reload  float64 // a reload fails
}

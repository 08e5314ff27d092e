package reconcile

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// turns makes the services share the loop. A service of many instances takes long to
// read, to plan and to change. So it has turns: between two of them the loop does what
// is due for the others, and each takes a bounded number of steps. Until its next turn,
// the service stays as it was in the last one, with Consul's answer and the plan.
type turns struct {
	large int // from how many servers or instances on a service has turns
	steps int // how many steps one turn takes, of those that add and of those that remove

	backends map[string]*turn // of the large services
	skipped  map[string]bool  // large services that have no turn now
	now      map[string]bool  // those that have one: true once its steps were sent
	late     time.Time        // since when one waits for the small services
}

// turn is how it stands with one large service.
type turn struct {
	want  catalog.Service    // Consul's answer at the last turn
	sent  map[plan.Step]bool // in the last turn
	left  map[plan.Step]failure
	took  time.Duration // the last turn
	at    time.Time     // when the last one ended
	rest  bool          // it had no step
	news  bool          // something is new since
	polls bool          // it waits for something in HAProxy
	open  bool          // it waits for something, or has steps that do not go through
	// unsent says that steps were left at the end of the last turn.
	unsent bool
	since  time.Time // since when it only does
}

// failure is a step that was sent and does not go through.
type failure struct {
	retry backoff
	tryAt time.Time // when it is tried again
}

const (
	largeService = 256
	// turnSteps take HAProxy some 100 ms where a backend has 10,000 servers.
	turnSteps = 128
	// restShare is how many times as long as its turn takes a large service is not
	// looked at, while it only waits for something in HAProxy; maxRest bounds that.
	restShare = 4
	maxRest   = 5 * time.Second
	// maxLate is for how long small services go before a large one, one after
	// another.
	maxLate = 200 * time.Millisecond
)

// begin decides who has a turn in this pass.
func (t *turns) begin(set []plan.Service, k *observedCache, snap catalog.Snapshot, news map[string]time.Time) {
	before, now := t.backends, time.Now()
	t.backends, t.skipped, t.now = map[string]*turn{}, map[string]bool{}, map[string]bool{}
	if !t.anyLarge(k, snap) {
		t.late = time.Time{}
		return
	}
	next, smallIsDue := "", false
	for _, s := range set {
		_, isNews := news[s.Backend]
		isNews = isNews || k.fresh[s.Backend]
		if max(len(k.observed.Backends[s.Backend].Servers), len(snap.Service(s.Backend).Instances)) < t.large {
			smallIsDue = smallIsDue || isNews
			continue
		}
		x, known := before[s.Backend]
		if !known {
			x = &turn{}
		}
		t.backends[s.Backend], x.news = x, isNews
		if !known || k.stale == nil || !k.observed.Running { // nothing can stay as it is
			t.now[s.Backend] = false
			continue
		}
		t.skipped[s.Backend] = true
		if isDue := isNews || (k.stale[s.Backend] || x.open || !x.rest) && !now.Before(x.next()); isDue && (next == "" || x.at.Before(t.backends[next].at)) {
			next = s.Backend
		}
	}
	switch {
	case next == "":
		t.late = time.Time{}
	case smallIsDue && t.late.IsZero():
		t.late = now
	case !smallIsDue || now.Sub(t.late) >= maxLate:
		delete(t.skipped, next)
		t.now[next], t.late = false, time.Time{}
		if x := t.backends[next]; x.polls && x.rest || len(x.left) > 0 {
			k.touch(next) // else it was read when its steps had been sent, and shows them
			x.polls = false
		}
	}
}

// anyLarge reports whether a service has turns: with very many services, each pass begins with
// this look at all.
func (t *turns) anyLarge(k *observedCache, snap catalog.Snapshot) bool {
	if snap.Largest() >= t.large {
		return true
	}
	for _, b := range k.observed.Backends {
		if len(b.Servers) >= t.large {
			return true
		}
	}
	return false
}

// next is when a large service of which nothing is new has its next turn.
func (x *turn) next() time.Time {
	if !x.rest {
		return x.at
	}
	return x.at.Add(max(paceMin, min(max(restShare*x.took, x.at.Sub(x.since)/20), maxRest)))
}

// until is how long it takes until a large service is to have its next turn.
func (t *turns) until(k *observedCache) time.Duration {
	again := time.Hour
	for backend, x := range t.backends {
		switch {
		case x.news && t.skipped[backend], k.fresh[backend]:
			again = 0
		case k.stale[backend], x.open, !x.rest:
			again = min(again, max(0, time.Until(x.next())))
		}
	}
	return again
}

// in leaves out the services that are skipped.
func (t *turns) in(services []plan.Service) (out []plan.Service) {
	if len(t.skipped) == 0 {
		return services
	}
	for _, s := range services {
		if !t.skipped[s.Backend] {
			out = append(out, s)
		}
	}
	return out
}

// hold returns the snapshot with the services that are skipped as they were. An answer that
// says the same at another index needs no turn: a Consul that has lost its data begins
// again, and its indexes are not to be compared with those of before.
func (t *turns) hold(snap catalog.Snapshot) catalog.Snapshot {
	for backend, x := range t.backends {
		now := snap.Service(backend)
		if t.skipped[backend] && (now.Index == x.want.Index || !now.Equal(x.want)) {
			snap = snap.With(x.want)
		} else {
			x.want = now
		}
	}
	return snap
}

// due returns the steps that are to be sent now: of a large service only in its turn,
// and only some. What removes does not wait for all that is added: a flood of
// instances must not hold up one that leaves.
func (t *turns) due(steps []plan.Step) (due []plan.Step) {
	if len(t.backends) == 0 {
		return steps
	}
	type side struct {
		backend  string
		isRemove bool
	}
	taken := map[side]int{}
	for _, s := range steps {
		of := side{s.Backend, s.IsRemoval()}
		switch {
		case t.backends[s.Backend] == nil:
		case t.skipped[s.Backend] || t.now[s.Backend] || taken[of] == t.steps || t.backends[s.Backend].waits(s):
			continue
		default:
			taken[of]++
		}
		due = append(due, s)
	}
	return due
}

// waits reports whether a step has failed, and must wait before it is tried again.
func (x *turn) waits(s plan.Step) bool { return time.Now().Before(x.left[s].tryAt) }

// isLeft reports whether a step has failed.
func (x *turn) isLeft(s plan.Step) bool {
	_, is := x.left[s]
	return is
}

// planned takes which of the steps that were sent are still to be taken: each has failed
// once more.
func (t *turns) planned(steps []plan.Step, jitter func(time.Duration) time.Duration) {
	before := map[string]map[plan.Step]failure{}
	for backend := range t.now {
		x := t.backends[backend]
		before[backend], x.left = x.left, map[plan.Step]failure{}
	}
	now := time.Now()
	for _, s := range steps {
		x := t.backends[s.Backend]
		if x == nil || t.skipped[s.Backend] {
			continue
		}
		f, isLeft := before[s.Backend][s]
		if x.sent[s] {
			delete(x.sent, s)
			f.tryAt, isLeft = now.Add(f.retry.next(jitter)), true
		}
		if isLeft {
			x.left[s] = f
		}
	}
}

// noteSent takes what was sent. That is the turn of the large services in it.
func (t *turns) noteSent(steps []plan.Step) {
	for _, s := range steps {
		x := t.backends[s.Backend]
		if x == nil {
			continue
		}
		if !t.now[s.Backend] {
			t.now[s.Backend], x.sent = true, map[plan.Step]bool{}
		}
		x.sent[s] = true
	}
}

// poll notes that a service waits for something in HAProxy. It reports whether the
// service is small, and is to be read in the next pass.
func (t *turns) poll(backend string) (isSmall bool) {
	x := t.backends[backend]
	if x != nil {
		x.polls = true
	}
	return x == nil
}

// small leaves out the steps of large services.
func (t *turns) small(steps []plan.Step) []plan.Step {
	if len(t.backends) == 0 {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool { return t.backends[s.Backend] != nil })
}

// isUnread reports whether a service that is skipped is to be read.
func (t *turns) isUnread(k *observedCache) bool {
	for backend := range t.skipped {
		if k.stale[backend] {
			return true
		}
	}
	return false
}

// isBehind reports whether a service that is skipped may run otherwise than it was
// planned in its last turn.
func (t *turns) isBehind(k *observedCache) bool {
	for backend := range t.skipped {
		if k.fresh[backend] || k.stale[backend] || t.backends[backend].unsent {
			return true
		}
	}
	return false
}

// end ends the turns of a pass, with these steps left.
func (t *turns) end(began time.Time, steps []plan.Step, decisions map[string]*plan.Decision) {
	now := time.Now()
	unsent := map[string]bool{}
	for _, s := range steps {
		unsent[s.Backend] = true
	}
	for backend, isSent := range t.now {
		x := t.backends[backend]
		x.took, x.at, x.rest = now.Sub(began), now, !isSent
		x.unsent = unsent[backend]
		x.open = decisions[backend] == nil || !decisions[backend].IsSettled()
		if isSent || x.news || x.since.IsZero() {
			x.since = now
		}
	}
}

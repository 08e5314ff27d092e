package reconcile

import (
	"cmp"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// behindGrace is how long a change may not have reached HAProxy before the sidecar is
// no longer ready.
const behindGrace = 10 * time.Second

// behindKeeper is what of Consul's answers HAProxy does not run yet.
type behindKeeper struct {
	servers map[string]map[string]time.Time // by backend and server: since when its change waits
	news    map[string]unplanned            // by backend
	at      time.Time                       // when that was so
	logged  bool
}

// unplanned is an answer of Consul that no plan was made with yet.
type unplanned struct {
	planned time.Time // the change that the last plan was made with
	since   time.Time // when Consul had another
}

// noteBehind counts the servers with a change that is still to be sent, each with its
// own age: where changes come all the time and go through, there is always one. What
// waits for something in HAProxy is not behind, nor is a step that keeps failing: it
// has its own log line.
func (a *Agent) noteBehind(snap catalog.Snapshot, p plan.Plan) (b BehindState) {
	now, was := time.Now(), &a.behind
	is := behindKeeper{servers: map[string]map[string]time.Time{}, news: map[string]unplanned{}, at: now, logged: was.logged}
	for _, s := range p.Steps {
		if x := a.turns.backends[s.Backend]; !a.trouble.stuck[s] && (x == nil || !x.isLeft(s)) {
			is.waits(&b, s.Backend, s.Server, was, a.known.seen[s.Backend])
		}
	}
	for _, w := range p.Waiting {
		if w.For == plan.ForSlot && a.reloads.held == "" && a.reloads.err == nil {
			is.waits(&b, w.Backend, cmp.Or(w.Server, w.Instance), was, a.known.seen[w.Backend])
		}
	}
	for backend, changed := range a.unplanned() {
		planned := a.known.seen[backend]
		if !snap.Service(backend).Known {
			continue
		}
		n, known := was.news[backend]
		if !known || !n.planned.Equal(planned) {
			n = unplanned{planned, changed}
		}
		is.news[backend] = n
		b.add(n.since)
	}
	isLate := b.isLate(now)
	switch {
	case isLate && !is.logged:
		a.log.Warn("behind Consul", "changes", b.Changes, "oldest", b.age(now))
	case !isLate && is.logged:
		a.log.Info("no longer behind Consul", "changes", b.Changes)
	}
	is.logged = isLate
	a.behind = is
	return b
}

// waits adds a server whose change waits: since when it did before, or since Consul
// has had the change that the plan was made with, if that is new, too.
func (k *behindKeeper) waits(b *BehindState, backend, server string, before *behindKeeper, changed time.Time) {
	of := k.servers[backend]
	if of == nil {
		of = make(map[string]time.Time, len(before.servers[backend]))
		k.servers[backend] = of
	}
	if _, isCounted := of[server]; isCounted {
		return
	}
	since, waited := before.servers[backend][server]
	news, isNews := before.news[backend]
	switch {
	case waited:
	case isNews:
		since = news.since
	case changed.After(before.at):
		since = changed
	default:
		since = k.at
	}
	of[server] = since
	b.add(since)
}

func (b *BehindState) add(since time.Time) {
	b.Changes++
	if b.Since.IsZero() || since.Before(b.Since) {
		b.Since = since
	}
}

func (b BehindState) age(now time.Time) time.Duration { return now.Sub(b.Since).Round(time.Second) }

func (b BehindState) isLate(now time.Time) bool {
	return b.Changes > 0 && now.Sub(b.Since) >= behindGrace
}

// String says how far behind HAProxy is.
func (b BehindState) String() string {
	return fmt.Sprintf("behind Consul by %d changes, oldest %s", b.Changes, b.age(time.Now()))
}

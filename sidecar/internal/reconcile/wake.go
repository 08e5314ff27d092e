package reconcile

import (
	"context"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// wake is what the loop comes round for.
type wake struct {
	compare  bool      // everything is to be compared
	settings *Settings // new ones
	releases []release
	orders   []reloadOrder
	drains   *[]catalog.OperatorDrain // an operator has changed them
	written  *fileWrite               // a write of haproxy.cfg has ended
	reloaded *reload                  // a reload has
	counted  *oldCount                // the old workers were counted
	compared *comparison              // everything was read

	tried []*trial // looks at what was rejected have ended

	isAside bool // that takes no pass, or may take none
}

// wake waits until a pass is due. All that has come by then is served by that
// one pass: it does not matter what came first, so no chance decides it.
func (a *Agent) wake(ctx context.Context, timer, compare <-chan time.Time) (w wake) {
	select {
	case <-ctx.Done():
	case <-a.catalog.Changed():
	case <-a.attended:
	case <-timer:
	case <-compare:
		w.compare, w.isAside = true, true
	case s := <-a.reconfigured:
		w.settings = &s
	case d := <-a.drains.changes:
		w.drains = &d
	case r := <-a.releases:
		w.releases = append(w.releases, r)
	case o := <-a.orders:
		w.orders = append(w.orders, o)
	case f := <-a.files.done:
		w.written = &f
	case w.reloaded = <-a.reloads.done:
	case w.compared = <-a.compared:
		w.isAside = true
	case c := <-a.old.done:
		w.counted, w.isAside = &c, true
	case t := <-a.tried:
		w.tried = append(w.tried, t)
	}
	for ; ; w.isAside = false {
		select {
		case <-a.catalog.Changed():
		case <-a.attended:
		case <-compare:
			w.compare = true
		case s := <-a.reconfigured:
			if w.settings != nil {
				s = s.replacing(*w.settings)
			}
			w.settings = &s
		case d := <-a.drains.changes:
			w.drains = &d
		case r := <-a.releases:
			w.releases = append(w.releases, r)
		case o := <-a.orders:
			w.orders = append(w.orders, o)
		case f := <-a.files.done:
			w.written = &f
		case w.reloaded = <-a.reloads.done:
		case w.compared = <-a.compared:
		case c := <-a.old.done:
			w.counted = &c
		case t := <-a.tried:
			w.tried = append(w.tried, t)
		default:
			return w
		}
	}
}

package reconcile

import (
	"maps"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// standing is the state that HAProxy has a server in, and since when.
type standing struct {
	addr  netip.AddrPort
	admin plan.Admin
	isUp  bool

	since   time.Time
	worker  int       // that was read last, by PID
	counted time.Time // since when by that worker's count, which begins with the worker
}

// rounding is by how much two readings of the same moment differ at most: HAProxy counts in
// whole seconds.
const rounding = 2 * time.Second

// next is what a reading that began at a time makes of it: the server's count is at least
// that old. A state that the worker before had, too, is older than a new worker's count. A
// count that is later than before is another change, also one that was not seen.
func (s standing) next(srv plan.Server, worker int, began time.Time) standing {
	counted := began.Add(-srv.SinceChange)
	is := standing{srv.Addr, srv.Admin, phase(srv) == PhaseUp, counted, worker, counted}
	switch {
	case s.since.IsZero(), s.addr != is.addr, s.admin != is.admin, s.isUp != is.isUp:
	case s.worker != worker && s.since.Before(counted):
		is.since = s.since
	case s.worker == worker && counted.Sub(s.counted) <= rounding:
		return s
	}
	return is
}

// noteStandings takes since when the servers of a backend are in their states, and reports
// whether that is otherwise for one of them. The reading began at a time.
func (k *observedCache) noteStandings(backend string, o plan.Observed, began time.Time) (isOther bool) {
	servers, all := o.Backends[backend].Servers, k.standings[backend]
	if all == nil {
		all = make(map[string]standing, len(servers))
		k.standings[backend] = all
	}
	for _, srv := range servers {
		was := all[srv.Name]
		if is := was.next(srv, o.PID, began); is != was {
			isOther = isOther || !is.since.Equal(was.since)
			all[srv.Name] = is
		}
	}
	if len(all) > len(servers) { // some are gone
		names := make(map[string]bool, len(servers))
		for _, srv := range servers {
			names[srv.Name] = true
		}
		maps.DeleteFunc(all, func(name string, _ standing) bool { return !names[name] })
	}
	return isOther
}

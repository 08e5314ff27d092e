package reconcile

import (
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Damping is how instances of one service are kept out whose health changes
// often. Each is judged by itself.
type Damping struct {
	Flaps    int           // number of failures that is too many; 0 damps no instance
	Min, Max time.Duration // how long such a one must stay passing before it is let in: at first, and at most
	Forget   time.Duration // time without another failure after which all are forgotten
}

// flapKeeper remembers how often instances began to fail. It lives as long as the
// sidecar.
type flapKeeper struct {
	services map[string]map[instanceKey]*flaps
	hot      map[string]map[instanceKey]*flaps // those of them that began to fail at all
	told     map[string]map[instanceKey]bool   // that are kept out, as logged
}

type instanceKey struct{ node, id string }

// flaps is one instance's past.
type flaps struct {
	server    string // HAProxy's name
	isPassing bool
	changed   time.Time // when it became what it is
	n         int       // how often it began to fail
}

// observe takes a new answer about a service. One that leaves, or is in
// maintenance, is neither passing nor failing; nor is one that failed from the start.
func (k *flapKeeper) observe(now time.Time, svc plan.Service, d Damping, instances []catalog.Instance) {
	was := k.services[svc.Backend]
	is := make(map[instanceKey]*flaps, len(instances))
	for _, inst := range instances {
		key := instanceKey{inst.Node, inst.ID}
		f, known := was[key]
		if !known {
			f = &flaps{changed: now}
		}
		f.server = inst.Server
		is[key] = f
		if !inst.Leaving.IsZero() || inst.Health == catalog.Maintenance {
			continue
		}
		isPassing := inst.Health == catalog.Passing || inst.Health == catalog.Warning && svc.Warning
		if known && isPassing == f.isPassing {
			continue
		}
		if now.Sub(f.changed) >= d.Forget {
			f.n = 0
		}
		if known && f.isPassing {
			f.n++
		}
		f.isPassing, f.changed = isPassing, now
	}
	for key, f := range was {
		// One that is gone may come back, and go on as before.
		if _, listed := is[key]; !listed && f.n > 0 && now.Sub(f.changed) < d.Forget {
			is[key] = f
		}
	}
	hot := map[instanceKey]*flaps{}
	for key, f := range is {
		if f.n > 0 {
			hot[key] = f
		}
	}
	k.services[svc.Backend], k.hot[svc.Backend] = is, hot
	if len(hot) == 0 {
		delete(k.hot, svc.Backend)
	}
}

// until is when an instance is let in; zero if nothing keeps it out.
func (f *flaps) until(now time.Time, d Damping) time.Time {
	if at := f.changed.Add(d.stability(f.n)); f.isPassing && at.After(now) {
		return at
	}
	return time.Time{}
}

// stability is how long an instance that began to fail n times must stay passing: it
// doubles with each.
func (d Damping) stability(n int) time.Duration {
	if d.Flaps == 0 || n < d.Flaps {
		return 0
	}
	wait := d.Min
	for ; n > d.Flaps && wait < d.Max; n-- {
		wait *= 2
	}
	return min(wait, d.Max)
}

// observeFlaps takes Consul's answer about a service.
func (a *Agent) observeFlaps(svc plan.Service, want catalog.Service) {
	switch d := a.set.Damping[svc.Backend]; {
	case d.Flaps == 0:
		delete(a.flaps.services, svc.Backend)
		delete(a.flaps.hot, svc.Backend)
	case want.Known:
		a.flaps.observe(time.Now(), svc, d, want.Instances)
	}
}

// flapping is who is to be kept out now, by backend and server.
func (a *Agent) flapping(now time.Time) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for backend, hot := range a.flaps.hot {
		for _, f := range hot {
			if f.until(now, a.set.Damping[backend]).IsZero() {
				continue
			}
			if out[backend] == nil {
				out[backend] = map[string]bool{}
			}
			out[backend][f.server] = true
		}
	}
	return out
}

// syncFlaps logs who begins to be kept out and who no longer is, and gives the
// time until the next is let in.
func (a *Agent) syncFlaps(now time.Time) time.Duration {
	again := time.Hour
	for _, svc := range a.set.Services {
		d := a.set.Damping[svc.Backend]
		for key, f := range a.flaps.hot[svc.Backend] {
			until := f.until(now, d)
			was := a.flaps.told[svc.Backend][key]
			switch {
			case !until.IsZero():
				again = min(again, until.Sub(now))
				if was {
					continue
				}
				if a.flaps.told[svc.Backend] == nil {
					a.flaps.told[svc.Backend] = map[instanceKey]bool{}
				}
				a.flaps.told[svc.Backend][key] = true
				a.log.Warn("instance flapping, suppressed until stable",
					"service", svc.Name, "instance", key.id, "node", key.node, "flaps", f.n, "stable_for", d.stability(f.n))
			case was && f.isPassing:
				delete(a.flaps.told[svc.Backend], key)
				a.log.Info("instance stable, suppression ended", "service", svc.Name, "instance", key.id, "node", key.node)
			}
		}
		for key := range a.flaps.told[svc.Backend] {
			if a.flaps.hot[svc.Backend][key] == nil {
				delete(a.flaps.told[svc.Backend], key) // it is gone, or forgotten
			}
		}
	}
	return again
}

func newFlapKeeper() flapKeeper {
	return flapKeeper{
		services: map[string]map[instanceKey]*flaps{}, hot: map[string]map[instanceKey]*flaps{},
		told: map[string]map[instanceKey]bool{},
	}
}

// keep forgets the services that are no longer routed.
func (k *flapKeeper) keep(services []plan.Service) {
	kept := newFlapKeeper()
	for _, s := range services {
		if is, known := k.services[s.Backend]; known {
			kept.services[s.Backend], kept.told[s.Backend] = is, k.told[s.Backend]
		}
		if hot := k.hot[s.Backend]; len(hot) > 0 {
			kept.hot[s.Backend] = hot
		}
	}
	*k = kept
}

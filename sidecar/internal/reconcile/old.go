package reconcile

import "context"

// oldWorkers is what is known of the workers of before a reload. They are counted
// beside the loop: the master may not answer for seconds.
type oldWorkers struct {
	oldCount

	counting bool
	done     chan oldCount // room for one

	// empty has the instances, by backend and ID, that were seen out of traffic
	// and without a session in any worker while there were old ones. They may
	// have no server by now, and who has none is looked for in no worker.
	empty map[[2]string]bool
}

// note takes from a state who is empty, while there are old workers to ask.
func (o *oldWorkers) note(s *State) {
	if o.n == 0 && !o.unknown {
		o.empty = nil
		return
	}
	for _, svc := range s.Services {
		for _, i := range svc.Instances {
			key := [2]string{svc.Backend, i.ID}
			switch {
			case i.ID == "", i.Phase == PhaseUnknown:
			case i.Phase == PhaseOut && i.MovesTo == "" && s.look(svc, i.ID).Drained:
				if o.empty == nil {
					o.empty = map[[2]string]bool{}
				}
				o.empty[key] = true
			default:
				delete(o.empty, key)
			}
		}
	}
}

// oldCount is how many old workers there are.
type oldCount struct {
	n       int
	memory  int64 // in bytes
	unknown bool  // they could not be counted, or were not yet
	of      int   // the worker, by PID, that served when they were counted
}

// countOldWorkers begins to count them, beside the loop.
func (a *Agent) countOldWorkers(ctx context.Context) {
	o, pid := &a.old, a.known.observed.PID
	if o.of != pid {
		o.empty = nil // what was counted there is not all of what is old now
		o.oldCount = oldCount{of: pid, unknown: true}
	}
	switch {
	case a.stopped:
		o.oldCount = oldCount{} // what comes is counted, whatever its PID
	case !a.known.observed.Running: // it can't be asked, and they live on
	case !o.counting: // else it begins again after that
		o.counting = true
		go func() {
			c := oldCount{of: pid}
			n, err := a.haproxy.OldWorkers(ctx)
			if c.n, c.unknown = n, err != nil; n > 0 {
				// For people: what can't be known of it is not shown.
				c.memory, _ = a.memory(ctx)
			}
			o.done <- c
		}()
	}
}

// noteOldWorkers takes a count, and reports whether it is news. One that began with
// another worker says nothing.
func (a *Agent) noteOldWorkers(ctx context.Context, c oldCount) (isNews bool) {
	a.old.counting = false
	if c.of != a.old.of {
		a.countOldWorkers(ctx)
		return false
	}
	isNews = a.old.oldCount != c
	a.old.oldCount = c
	return isNews
}

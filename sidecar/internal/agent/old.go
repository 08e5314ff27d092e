package agent

import "context"

// oldWorkers is what is known of the workers of before a reload.
type oldWorkers struct {
	n       int
	memory  int64 // in bytes
	unknown bool  // they could not be counted
	of      int   // the worker, by PID, that served when they were counted

	// empty has the instances, by service and ID, that were seen out of traffic
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
			key := [2]string{svc.Name, i.ID}
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

// countOldWorkers counts them. What memory they take is for people, and what
// can't be known of it is not shown.
func (a *Agent) countOldWorkers(ctx context.Context) {
	pid := a.known.observed.PID
	if a.old.of != pid {
		a.old.empty = nil // what was counted there is not all of what is old now
	}
	a.old = oldWorkers{of: pid, empty: a.old.empty}
	if !a.known.observed.Running {
		return
	}
	n, err := a.haproxy.OldWorkers(ctx)
	if a.old.n, a.old.unknown = n, err != nil; n == 0 {
		return
	}
	if bytes, err := a.memory(ctx); err == nil {
		a.old.memory = bytes
	}
}

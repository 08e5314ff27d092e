package event

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// between returns what has changed from one state to the next one.
func between(was, is *reconcile.State) []Event {
	events := ofBalancer(was, is)
	if !was.HAProxy.Running || !is.HAProxy.Running {
		return events // what was known of the servers has gone with HAProxy
	}
	at := 0
	for i := range is.Services {
		now := &is.Services[i]
		for at < len(was.Services) && order(&was.Services[at], now) < 0 {
			at++
		}
		if at < len(was.Services) && order(&was.Services[at], now) == 0 && was.Services[at].Known { // else all of it would be new
			events = append(events, ofService(&was.Services[at], now)...)
		}
	}
	return events
}

// order is that of a State's services.
func order(a, b *reconcile.ServiceState) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Backend, b.Backend))
}

func ofBalancer(was, is *reconcile.State) (events []Event) {
	turned := func(before, now bool, on, off Kind, why string) {
		if before != now {
			e := Event{Kind: on}
			if !now {
				e = Event{Kind: off, Error: why}
			}
			events = append(events, e)
		}
	}
	turned(was.HAProxy.Running, is.HAProxy.Running, HAProxyUp, HAProxyDown, is.HAProxy.Error)
	if was.HAProxy.PID != is.HAProxy.PID && was.HAProxy.PID != 0 && is.HAProxy.PID != 0 {
		events = append(events, Event{Kind: WorkerChanged, Detail: fmt.Sprintf("pid %d", is.HAProxy.PID)})
	}
	turned(was.Consul.Error == "", is.Consul.Error == "", ConsulBack, ConsulLost, is.Consul.Error)
	turned(was.HAProxy.Maintenance, is.HAProxy.Maintenance, MaintenanceOn, MaintenanceOff, "")
	turned(was.Ready, is.Ready, Ready, NotReady, is.NotReady)
	return events
}

func ofService(was, is *reconcile.ServiceState) (events []Event) {
	if held := len(is.Guard.Held); held > 0 && !slices.Equal(was.Guard.Held, is.Guard.Held) {
		events = append(events, Event{Kind: GuardHeld, Service: is.Name, Backend: is.Backend, Detail: fmt.Sprintf("%d held", held)})
	} else if held == 0 && len(was.Guard.Held) > 0 {
		events = append(events, Event{Kind: GuardReleased, Service: is.Name, Backend: is.Backend})
	}
	paused := func(s *reconcile.ServiceState) bool { return s.Pause != nil && !s.Pause.Applied.IsZero() }
	switch before, now := paused(was), paused(is); {
	case now && !before:
		events = append(events, Event{Kind: ServicePaused, Service: is.Name, Backend: is.Backend, Reason: is.Pause.Reason, Detail: "until " + is.Pause.Until.Format(time.RFC3339)})
	case before && !now:
		events = append(events, Event{Kind: ServiceResumed, Service: is.Name, Backend: is.Backend})
	}
	rejected := make(map[reconcile.RejectedState]bool, len(was.Rejected))
	for _, r := range was.Rejected {
		rejected[r] = true
	}
	for _, r := range is.Rejected {
		if !rejected[r] {
			events = append(events, Event{Kind: InstanceRejected, Service: is.Name, Backend: is.Backend, Instance: r.ID, Error: r.Error})
		}
	}
	// A slice that has not changed is the same one.
	if len(was.Instances) == len(is.Instances) && (len(is.Instances) == 0 || &was.Instances[0] == &is.Instances[0]) {
		return events
	}
	for _, p := range pairs(was.Instances, is.Instances) {
		events = append(events, ofInstance(is, p)...)
	}
	return events
}

// pair is one instance before and now; nil: it was not, or is not there.
type pair struct{ was, is *reconcile.InstanceState }

// pairs joins two lists that are sorted by server, and gives who may differ. An
// instance that moved to another server is one pair.
func pairs(was, is []reconcile.InstanceState) (out []pair) {
	type key struct{ id, node, server string }
	of := func(i *reconcile.InstanceState) key {
		if i.ID == "" {
			return key{server: i.Server}
		}
		return key{id: i.ID, node: i.Node}
	}
	gone := map[key]*reconcile.InstanceState{}
	var came []*reconcile.InstanceState
	for len(was) > 0 || len(is) > 0 {
		order := 0
		switch {
		case len(was) == 0:
			order = 1
		case len(is) == 0:
			order = -1
		default:
			order = strings.Compare(was[0].Server, is[0].Server)
		}
		switch {
		case order == 0 && of(&was[0]) == of(&is[0]):
			if was[0] != is[0] {
				out = append(out, pair{&was[0], &is[0]})
			}
		default:
			if order <= 0 {
				gone[of(&was[0])] = &was[0]
			}
			if order >= 0 {
				came = append(came, &is[0])
			}
		}
		if order <= 0 {
			was = was[1:]
		}
		if order >= 0 {
			is = is[1:]
		}
	}
	for _, i := range came {
		out = append(out, pair{gone[of(i)], i})
		delete(gone, of(i))
	}
	for _, i := range gone {
		out = append(out, pair{i, nil})
	}
	slices.SortStableFunc(out, func(a, b pair) int { return strings.Compare(a.server(), b.server()) })
	return out
}

func (p pair) server() string {
	if p.is != nil {
		return p.is.Server
	}
	return p.was.Server
}

func ofInstance(svc *reconcile.ServiceState, p pair) (events []Event) {
	add := func(kind Kind, i *reconcile.InstanceState, reason, detail string) {
		events = append(events, Event{Kind: kind, Service: svc.Name, Backend: svc.Backend, Server: i.Server, Instance: i.ID, Reason: reason, Detail: detail})
	}
	was, is := p.was, p.is
	switch {
	case is == nil:
		if was.ID != "" {
			add(InstanceGone, was, "", "")
		}
		return events
	case was == nil:
		if is.ID == "" {
			return nil // the server of one that is gone
		}
		add(InstanceRegistered, is, "", is.Version)
		was = &reconcile.InstanceState{Health: is.Health, Phase: reconcile.PhaseUnknown}
	}
	if is.Leaving && !was.Leaving {
		add(InstanceLeaving, is, "", "")
	}
	if was.Health != is.Health {
		add(HealthChanged, is, "", is.Health)
	}
	switch {
	case is.TakesTraffic() && !was.TakesTraffic():
		add(ServerUp, is, "", "")
	case is.Phase == was.Phase:
	case is.Phase == reconcile.PhaseDown:
		add(ServerDown, is, is.Reason, "")
	case is.Phase == reconcile.PhaseDrained:
		add(ServerDrained, is, is.Reason, "")
	}
	return events
}

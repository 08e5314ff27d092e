package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// ErrNoServer says that a service has no such server.
var ErrNoServer = errors.New("the service has no such server")

// drainKeeper keeps what an operator has put in drain.
type drainKeeper struct {
	store   DrainStore // nil: nothing is kept
	changes chan []catalog.OperatorDrain

	mu   sync.Mutex              // one change at a time
	read bool                    // list is what the store has
	list []catalog.OperatorDrain // in the order in which they began

	// The rest belongs to the goroutine of Run.
	now     []catalog.OperatorDrain
	backend map[string]map[string]int // see plan.Observed.Drained
}

// SetDrain puts a server in drain for an operator, or ends that. The server is
// named as HAProxy has it, or by its instance's Consul ID. It is kept on disk before
// the loop knows it, and returns once the loop does.
func (a *Agent) SetDrain(ctx context.Context, service, server string, on bool) (catalog.OperatorDrain, error) {
	k := &a.drains
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := a.readDrains(); err != nil {
		return catalog.OperatorDrain{}, err
	}
	d, err := a.drainOf(service, server)
	if err != nil {
		return d, err
	}
	is := func(x catalog.OperatorDrain) bool { return x.Service == d.Service && x.Server == d.Server }
	list := slices.Clone(k.list)
	switch i := slices.IndexFunc(list, is); {
	case i >= 0 && on:
		return list[i], nil
	case i < 0 && !on:
		return d, nil
	case on:
		d.Since = time.Now().UTC().Truncate(time.Second)
		list = append(list, d)
	default:
		list = slices.Delete(list, i, i+1)
	}
	if k.store != nil {
		if err := k.store.Save(list); err != nil {
			return d, err
		}
	}
	k.list = list
	select {
	case k.changes <- list:
	case <-ctx.Done():
		return d, fmt.Errorf("saved, but the sidecar is busy: %w", context.Cause(ctx))
	}
	return d, nil
}

// readDrains reads what the sidecar before has left, once. A file that is damaged
// was put aside: there is nothing to wait for.
func (a *Agent) readDrains() error {
	k := &a.drains
	if k.read || k.store == nil {
		return nil
	}
	list, err := k.store.Load()
	if err != nil {
		a.log.Error("operator drains cannot be read", "path", k.store.Path(), "error", oneLine(err))
		return err
	}
	k.list, k.read = list, true
	return nil
}

// drainOf finds the instance that a server is, among those that are known now and
// those that are in drain.
func (a *Agent) drainOf(service, server string) (catalog.OperatorDrain, error) {
	d, s, refused := catalog.OperatorDrain{Service: service}, a.State(), ""
	snap, routed, found := a.catalog.Snapshot(), false, map[string]bool{}
	for _, backend := range s.Services {
		if backend.Name != service {
			continue
		}
		routed = true
		for _, x := range backend.Instances {
			if x.Server == server {
				refused = x.NoDrain
			}
			for _, inst := range snap.Service(backend.Backend).Instances {
				if x.ID == inst.ID && x.Node == inst.Node && (x.Server == server || x.ID == server) {
					d.Server = inst.Server
					found[inst.Server] = true
				}
			}
		}
	}
	if !routed {
		return d, ErrNotRouted
	}
	for _, kept := range a.drains.list {
		if len(found) == 0 && kept.Service == service && kept.Server == server {
			return kept, nil // Consul does not list it any more
		}
	}
	switch len(found) {
	case 0:
		if refused != "" {
			return d, fmt.Errorf("%w that can be kept in drain: %s", ErrNoServer, refused)
		}
		return d, ErrNoServer
	case 1:
		return d, nil
	}
	return d, fmt.Errorf("%w: several instances have this name, use another of ID, server and BACKEND/SERVER", ErrNoServer)
}

// drainRefused says why an operator cannot keep the server in drain; "" where one can.
func (i *InstanceState) drainRefused() string {
	switch {
	case i.Own:
		return "it is a server of the operator's own, left alone: HAProxy's runtime socket changes it"
	case i.ID == "" && i.Health == healthGone:
		return "Consul does not list its instance"
	case i.ID == "":
		return "Consul has not answered yet"
	}
	return ""
}

// recallDrains makes what the sidecar before has left known to the loop.
func (a *Agent) recallDrains() {
	k := &a.drains
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = a.readDrains() // logged
	for _, d := range k.list {
		a.log.Warn("server is kept in drain by an operator", "service", d.Service, "server", d.Server, "since", d.Since)
	}
	a.takeDrains(k.list)
}

// noteDrains takes a change.
func (a *Agent) noteDrains(list []catalog.OperatorDrain) {
	was := a.drains.now
	for _, d := range list {
		if !slices.Contains(was, d) {
			a.log.Warn("server drained by an operator", "service", d.Service, "server", d.Server)
		}
	}
	for _, d := range was {
		if !slices.Contains(list, d) {
			a.log.Info("operator drain ended", "service", d.Service, "server", d.Server)
		}
	}
	a.takeDrains(list)
	for _, s := range a.set.Services {
		a.known.touch(s.Backend)
		a.known.fresh[s.Backend] = true
	}
}

func (a *Agent) takeDrains(list []catalog.OperatorDrain) {
	a.drains.now, a.drains.backend = list, Drained(list, a.set.Services)
}

// Drained returns what an operator has put in drain as plan.Observed has it.
func Drained(list []catalog.OperatorDrain, services []plan.Service) map[string]map[string]int {
	out := map[string]map[string]int{}
	for _, s := range services {
		for n, d := range list {
			if d.Service != s.Name {
				continue
			}
			if out[s.Backend] == nil {
				out[s.Backend] = map[string]int{}
			}
			out[s.Backend][d.Server] = n + 1
		}
	}
	return out
}

// drainsOf is since when an operator keeps which instances of a service in drain.
func (a *Agent) drainsOf(service string, want catalog.Service) map[instanceKey]time.Time {
	out := map[instanceKey]time.Time{}
	for _, d := range a.drains.now {
		for n := range want.Instances {
			if inst := &want.Instances[n]; d.Service == service && d.Server == inst.Server {
				out[instanceKey{inst.Node, inst.ID}] = d.Since
			}
		}
	}
	return out
}

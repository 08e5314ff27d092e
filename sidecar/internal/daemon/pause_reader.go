package daemon

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// pauseAge is for how long, from when it was begun, an answer is given again. The wait of
// `pointsman pause` allows for it.
const pauseAge = 100 * time.Millisecond

// pauseReader tells the API how far a pause is.
type pauseReader struct {
	name           string // of this load balancer
	seesOldWorkers bool
	state          func() *reconcile.State
	canPause       func(backend string) bool
	held           func(context.Context, []string) (haproxy.Held, error)

	turn  chan struct{}        // has room for one: HAProxy's runtime socket takes few connections
	known map[string]pauseThen // by service, those of a moment ago; whose turn it is may use it
}

type pauseThen struct {
	began time.Time
	pause sidecarapi.Pause
}

func (d *Daemon) pauseReader() *pauseReader {
	return &pauseReader{
		name: d.cfg.Name, seesOldWorkers: d.cfg.HAProxy.MasterSocket != "", state: d.agent.State, canPause: d.canPauseBackend, held: d.haproxy.Held,
		turn: make(chan struct{}, 1), known: map[string]pauseThen{},
	}
}

// read gives the pause of a service, and whether it is routed here.
func (r *pauseReader) read(ctx context.Context, service string) (sidecarapi.Pause, bool, error) {
	asked := time.Now()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return sidecarapi.Pause{}, true, context.Cause(ctx)
	}
	maps.DeleteFunc(r.known, func(_ string, k pauseThen) bool { return k.began.Before(asked) && time.Since(k.began) >= pauseAge })
	if k, isGood := r.known[service]; isGood {
		return k.pause, true, nil
	}
	// The state is read before the requests are counted: none that HAProxy has let through
	// before it had the pause is missing.
	began := time.Now()
	p, backends := r.stateOf(service)
	if len(backends) == 0 {
		return p, false, nil
	}
	h, err := r.held(ctx, backends)
	p.AtServers, p.Waiting, p.Attempts = h.AtServers, h.Waiting, h.Attempts
	if err == nil {
		r.known[service] = pauseThen{began, p}
	}
	return p, true, err
}

// stateOf is what the agent knows of a pause, and the backends of the service.
func (r *pauseReader) stateOf(service string) (p sidecarapi.Pause, backends []string) {
	p = sidecarapi.Pause{LoadBalancer: r.name, Service: service, Applied: true}
	s := r.state()
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Name != service {
			continue
		}
		backends = append(backends, svc.Backend)
		if svc.Pause == nil || svc.Pause.Applied.IsZero() {
			p.Applied = false
		}
		if svc.Pause != nil {
			p.Until, p.Problem = svc.Pause.Until, cmp.Or(p.Problem, svc.Pause.Problem)
		}
		switch {
		case !r.canPause(svc.Backend):
			p.Problem = reconcile.CannotPause
		case !r.seesOldWorkers:
			p.Problem = cmp.Or(p.Problem, "haproxy.master_socket is not set: requests in old workers cannot be counted")
		}
	}
	return p, backends
}

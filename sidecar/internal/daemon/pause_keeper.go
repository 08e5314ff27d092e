package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/pause"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// pausable returns the backends whose services can be paused, with these; nil if
// haproxy.cfg does not name the map of pauses. A profile does before it has a service.
func pausable(cfg config.Config) map[string]string {
	var out map[string]string
	isPaused := func(s config.Service) bool { return s.CanPause() }
	if slices.ContainsFunc(cfg.Services, isPaused) || slices.ContainsFunc(cfg.Profiles, func(p config.Profile) bool { return p.Service.CanPause() }) {
		out = map[string]string{}
	}
	for _, s := range cfg.Services {
		if s.CanPause() {
			out[s.Backend] = s.Name
		}
	}
	return out
}

// pauseFile is the path of HAProxy's map of pauses.
func pauseFile(cfg config.Config) string {
	return render.MapFile(mapPath(cfg.HAProxy.Config), render.PauseMap)
}

// pauseMap is the same for the agent.
func pauseMap(cfg config.Config) reconcile.PauseMap {
	m := reconcile.PauseMap{Backends: pausable(cfg)}
	if m.Backends != nil {
		m.File = pauseFile(cfg)
	}
	return m
}

// savedPauses is the pauses that haproxy.cfg has: those that are known while Consul has said
// nothing.
func savedPauses(cfg config.Config) map[string]catalog.Pause {
	content, _ := render.ReadRegular(cfg.HAProxy.Config) // there may be none yet
	return render.PausesIn(content, time.Now())
}

// checkPause refuses pause.max where the HAProxy of check_command says that it is too old:
// its own alert about the rule does not say why.
func checkPause(ctx context.Context, cfg config.Config) error {
	command, key := cfg.HAProxy.CheckCommand, ""
	for _, s := range cfg.Services {
		if s.CanPause() {
			key = "pause.max of the service " + s.Name
		}
	}
	for _, p := range cfg.Profiles {
		if p.Service.CanPause() {
			key = "pause.max of the profile " + p.Name
		}
	}
	if key == "" || len(command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	says, err := exec.CommandContext(ctx, command[0], "-v").Output() //nolint:gosec // the operator's own check_command
	if err != nil {
		return nil // another program, which tells nothing
	}
	if version, can := haproxy.ProgramPauses(string(says)); !can {
		return fmt.Errorf("%s: needs HAProxy 3.2 or newer, which can make requests wait (http-request pause); this is %s (%s -v)", key, version, command[0])
	}
	return nil
}

// pauseKeeper is what the daemon knows of pauses. The daemon's mu guards it.
type pauseKeeper struct {
	known  map[string]catalog.Pause // by service
	failed error                    // why Consul's cannot be read
	change chan struct{}            // has room for one: they have changed
}

const (
	// pauseLook is how often old workers are looked after while a service is paused, and
	// pauseRest for how long afterwards: a reload makes the worker old that has the requests
	// which wait.
	pauseLook = time.Second
	pauseRest = 15 * time.Second
)

// withPauses returns settings with the pauses that are known, in HAProxy's file and for the agent.
// The caller holds mu, or is alone.
func (d *Daemon) withPauses(r *render.Renderer, set reconcile.Settings) (*render.Renderer, reconcile.Settings) {
	if set.Pauses.File == "" {
		set.Pauses.Of = d.pauses.known // the state says why they are not applied
		return r, set
	}
	r = r.WithPauses(d.pauses.known)
	set.Renderer, set.Pauses.Of, set.Pauses.Error = renderer{r}, d.pauses.known, ""
	if d.pauses.failed != nil {
		set.Pauses.Error = d.pauses.failed.Error()
	}
	return r, set
}

// followPauses keeps the pauses of services as Consul has them, as soon as one can be paused.
func (d *Daemon) followPauses(ctx context.Context) error {
	for !d.canPause() {
		if Sleep(ctx, pauseLook); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	kv, err := consul.NewKV(ConsulOptions(d.started, d.log))
	if err != nil {
		return err
	}
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		d.keepPauses(ctx, d.haproxy.UpdateOldMaps)
	}()
	watch := &pause.Watch{Log: d.log.Named("pause"), Now: time.Now, Changed: d.setPauses}
	kv.Follow(ctx, string(pause.Prefix), watch.Take)
	return context.Cause(ctx)
}

// setPauses goes on with other pauses; nil: the same, and why Consul's cannot be read.
func (d *Daemon) setPauses(now map[string]catalog.Pause, failed error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now == nil {
		now = d.pauses.known
	}
	d.usePauses(now, failed)
}

// usePauses uses those that are not over. The caller holds mu.
func (d *Daemon) usePauses(now map[string]catalog.Pause, failed error) {
	p := &d.pauses
	now = withoutPast(now, time.Now())
	if maps.Equal(now, p.known) && (failed == nil) == (p.failed == nil) {
		return
	}
	p.known, p.failed = now, failed
	d.reconfigure(d.newest, onlyRoutes(d.set))
	select {
	case p.change <- struct{}{}:
	default:
	}
}

func withoutPast(pauses map[string]catalog.Pause, now time.Time) map[string]catalog.Pause {
	out := maps.Clone(pauses)
	maps.DeleteFunc(out, func(_ string, p catalog.Pause) bool { return !p.Until.After(now) && p.Refused == "" })
	return out
}

// keepPauses takes pauses out of the file that are over, and has requests go on, too, that
// wait in old workers.
func (d *Daemon) keepPauses(ctx context.Context, update updateMaps) {
	tick := time.NewTicker(pauseLook)
	defer tick.Stop()
	old := &oldPauses{update: update, log: d.log.Named("pause"), until: time.Now().Add(pauseRest)}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.pauses.change:
		case <-tick.C:
		}
		d.mu.Lock()
		d.usePauses(d.pauses.known, d.pauses.failed)
		m := d.set.Pauses
		d.mu.Unlock()
		old.sync(ctx, m)
	}
}

type updateMaps func(ctx context.Context, file string, want route.Map) error

// oldPauses brings the maps of old workers to what is wanted while one may differ: after
// the start, as an end of a pause may have been missed, and after one that failed.
type oldPauses struct {
	update updateMaps
	log    hclog.Logger
	until  time.Time
	said   string
}

func (o *oldPauses) sync(ctx context.Context, m reconcile.PauseMap) {
	now := time.Now()
	want, next := m.Want(now)
	if !next.IsZero() {
		o.until = now.Add(pauseRest)
	}
	if m.File == "" || !now.Before(o.until) {
		return
	}
	err := o.update(ctx, m.File, want)
	switch {
	case err == nil:
		o.said = ""
		return
	case err.Error() != o.said && ctx.Err() == nil:
		o.log.Warn("pauses in old workers not updated", "error", err)
		o.said = err.Error()
	}
	o.until = time.Now().Add(pauseRest)
}

func (d *Daemon) canPause() bool { return *d.pausable.Load() != nil }

func (d *Daemon) canPauseBackend(backend string) bool {
	_, can := (*d.pausable.Load())[backend]
	return can
}

// pausableServices returns the services that may be paused, sorted.
func (d *Daemon) pausableServices() []string {
	return slices.Compact(slices.Sorted(maps.Values(*d.pausable.Load())))
}

// isPaused reports whether a service is paused.
func (d *Daemon) isPaused(service string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pauses.known[service].Until.After(time.Now())
}

// pauseSetter pauses services for the API of a load balancer.
func (d *Daemon) pauseSetter(store pause.Store) api.SetPause {
	by := "API of " + d.started.Name
	return func(ctx context.Context, service string, hold time.Duration, reason string) (any, bool, error) {
		if hold > 0 {
			if err := errors.Join(pause.CheckHold(hold), consul.CheckText(reason)); err != nil {
				return nil, false, &api.InvalidError{Err: err}
			}
			if err := d.mayPause(service); err != nil {
				return nil, true, err
			}
		}
		_, is, err := store.Change(ctx, service, pause.Change(by, reason, hold, time.Now()))
		if _, isChanged := errors.AsType[*pause.ChangedError](err); isChanged {
			return nil, true, err
		}
		return PauseChanged{d.started.Name, is}, false, err
	}
}

// PauseChanged is the body of an answer about a pause that the API has changed.
type PauseChanged struct {
	LoadBalancer string          `json:"load_balancer"`
	Document     *pause.Document `json:"document"`
}

// mayPause refuses what this load balancer would not do.
func (d *Daemon) mayPause(service string) error {
	if slices.Contains(d.pausableServices(), service) {
		return nil
	}
	return fmt.Errorf("%s cannot be paused: this load balancer does not route it, or its pause.max is not set", catalog.Printable(service))
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// SettingsError is why parts cannot be made of the settings.
type SettingsError struct{ err error }

func (e *SettingsError) Error() string { return e.err.Error() }

func (e *SettingsError) Unwrap() error { return e.err }

// catalogWait bounds how long a command that runs once waits for Consul.
const catalogWait = 10 * time.Second

// CatalogOnce asks Consul for every service once.
func CatalogOnce(ctx context.Context, cfg config.Config) (catalog.Snapshot, error) {
	return askOnce(ctx, cfg, nil)
}

// askOnce is CatalogOnce; more may then ask for more, and wait for other services.
func askOnce(ctx context.Context, cfg config.Config, more func(ctx context.Context, source *consul.Source, own []consul.Listener, wait func(config.Config) error) error) (catalog.Snapshot, error) {
	r, err := NewRenderer(cfg)
	if err != nil {
		return catalog.Snapshot{}, &SettingsError{err}
	}
	own := ownListeners(cfg, r, nil)
	source, err := newSource(cfg, own, hclog.NewNullLogger())
	if err != nil {
		return catalog.Snapshot{}, &SettingsError{err}
	}
	all, err := newOverlay(cfg, source, hclog.NewNullLogger())
	if err != nil {
		return catalog.Snapshot{}, &SettingsError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, catalogWait)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { _ = source.Run(ctx) }) // their only end is ctx's
	running.Go(func() { _ = all.Run(ctx) })
	defer func() {
		cancel()
		running.Wait()
	}()
	wait := func(cfg config.Config) error { return awaitAnswers(ctx, source, all, cfg) }
	err = wait(cfg)
	snap := all.Snapshot()
	if err == nil && more != nil {
		err = more(ctx, source, own, wait)
	}
	return snap, err
}

// awaitAnswers waits until every service has had an answer. The first error is shown at
// once: a user who runs a command by hand does not want to watch retries.
func awaitAnswers(ctx context.Context, source *consul.Source, all *rollout.Overlay, cfg config.Config) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		known, err := answered(source, cfg)
		if err == nil && !all.IsRead() {
			known, err = false, all.Err()
		}
		if known || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("query Consul at %s: no answer within %s", cfg.Consul.Address, catalogWait)
		case <-source.Changed():
		case <-poll.C:
		}
	}
}

// answered reports whether every service has had an answer, or why one has not.
func answered(source *consul.Source, cfg config.Config) (bool, error) {
	snap, all := source.Snapshot(), true
	for _, s := range cfg.Services {
		if s.Preview.Of != "" || snap.Service(s.Backend).Known {
			continue
		}
		all = false
		if err := source.Health(s.Backend).Err; err != nil {
			return false, err // one is enough to tell what is wrong
		}
	}
	return all, nil
}

// observedFile is what haproxy.cfg says of a HAProxy that does not run: who took traffic,
// and whether it begins out of rotation. A file that is not there or cannot be read says
// nothing.
func observedFile(cfg config.Config) plan.Observed {
	content, err := render.ReadRegular(cfg.HAProxy.Config)
	if err != nil {
		return plan.Observed{}
	}
	return plan.Observed{Last: plan.ServersIn(string(content)), Maintenance: InRotation(cfg) && plan.MaintenanceIn(string(content))}
}

// ObserveOnce reads what HAProxy runs. None running is no error: the program
// on disk tells what it will be able to do.
func ObserveOnce(ctx context.Context, cfg config.Config) (plan.Observed, error) {
	p, err := NewProxy(cfg, hclog.NewNullLogger(), nil)
	if err != nil {
		return plan.Observed{}, &SettingsError{err}
	}
	names := make([]string, 0, len(cfg.Services))
	for _, s := range cfg.Services {
		names = append(names, s.Backend)
	}
	if InRotation(cfg) {
		names = append(names, plan.RotationBackend)
	}
	o, err := p.Observe(ctx, names)
	if errors.Is(err, plan.ErrNotRunning) {
		o = observedFile(cfg)
		o.Caps = p.Capabilities(ctx)
		return o, nil
	}
	return o.WithMaintenance(), err
}

// RenderedOnce is the haproxy.cfg of now; offline, without its servers.
func RenderedOnce(ctx context.Context, cfg config.Config, offline bool) ([]byte, error) {
	r, err := NewRenderer(cfg)
	if err != nil {
		return nil, &SettingsError{err}
	}
	var snap catalog.Snapshot
	o := plan.Observed{}
	if !offline {
		if snap, err = CatalogOnce(ctx, cfg); err != nil {
			return nil, err
		}
		if o, err = ObserveOnce(ctx, cfg); err != nil {
			return nil, err
		}
		drains, err := NewStateFile(cfg).Read()
		if err != nil {
			return nil, err
		}
		o.Drained = reconcile.Drained(drains, Policy(cfg, r))
	}
	p := plan.Compute(plan.Desired{Marker: r.Marker(), Services: Policy(cfg, r), Rotation: InRotation(cfg)}, o, snap)
	return r.Render(p.File)
}

package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

func haproxyKinds() []kind {
	alone := func(f fault) []string { return []string{haproxyOf(f.lb)} }
	// It reads its file, and takes every server in it for up until its checks
	// say otherwise: no second dead one may be in it, and it must be current.
	reload := func(f fault) []string {
		n := []string{haproxyOf(f.lb), diskOf(f.lb), settingsOf(f.lb), blind}
		for _, fleet := range fleets {
			n = append(n, out(fleet.service))
		}
		return n
	}
	// Clients have to hear of it, from Consul; and the sidecar writes into the
	// file that it is out of rotation.
	replace := func(f fault) []string {
		return []string{haproxyOf(f.lb), diskOf(f.lb), settingsOf(f.lb), sidecarOf(f.lb), consul}
	}
	return []kind{
		{"haproxy reloaded by hand", 0, 0, reload, haproxyReloaded},
		{"haproxy frozen", 100 * time.Millisecond, time.Second, alone, haproxyFrozen},
		{"haproxy replaced in maintenance", 0, 3 * time.Second, replace, haproxyReplaced},
	}
}

func haproxyReloaded(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	before, err := lb.WorkerPID(ctx)
	if err != nil {
		return err
	}
	if err := lb.ReloadHAProxy(ctx); err != nil {
		return err
	}
	if err := lab.Until(ctx, mendLimit, lb.Name+" has a new worker", func() error {
		pid, err := lb.WorkerPID(ctx)
		if err == nil && pid == before {
			err = errors.New("it has the old one")
		}
		return err
	}); err != nil {
		return err
	}
	pause(ctx, checked)
	return nil
}

// checked is the time in which a HAProxy that has started finds out who is
// dead, by its own checks.
const checked = 4 * time.Second

func haproxyFrozen(ctx context.Context, s *site, f fault, _ *hold) error {
	return freeze(ctx, s.lbs[f.lb].HAProxy, f.length)
}

func haproxyReplaced(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	// The other one must be in rotation, as far as clients know.
	if err := errors.Join(s.findable(ctx), lb.Ready(ctx, mendLimit)); err != nil {
		return err
	}
	if _, err := lb.Maintenance(ctx, "on", "--wait", "60s"); err != nil {
		return err
	}
	signal := syscall.SIGTERM
	if f.coin {
		signal = syscall.SIGKILL // of the master; its worker ends with it
	}
	if err := lb.HAProxy.Signal(signal); err != nil {
		return err
	}
	if err := lb.HAProxy.Wait(30 * time.Second); err != nil && lb.HAProxy.Running() {
		return err
	}
	pause(ctx, f.length)
	if err := errors.Join(lb.StartHAProxy(ctx), lb.Ready(ctx, mendLimit)); err != nil {
		return err
	}
	lb.reloads.Add(-1) // its worker is a new one, but of a new master
	pause(ctx, checked)
	if _, err := lb.Maintenance(ctx, "off", "--wait", "60s"); err != nil {
		return err
	}
	return s.findable(ctx)
}

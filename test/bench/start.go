package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// start measures how long a sidecar takes until it is ready for 10,000
// instances: beside no HAProxy, which is started as soon as there is a file,
// and beside an HAProxy that runs already. The floor of the first is one bare
// query and HAProxy's own start with a file that is there.
func start(ctx context.Context, b *bench) error {
	s, err := b.newSite(ctx, fleet{services: 1, instances: 10_000})
	if err != nil {
		return err
	}
	var cold, beside, floor []float64
	for run := range b.cfg.runs {
		c, err := s.coldStart(ctx)
		if err != nil {
			return err
		}
		again, err := s.startBeside(ctx)
		if err != nil {
			return err
		}
		least, err := s.leastStart(ctx)
		if err != nil {
			return err
		}
		b.step("run %d of %d: %.2f s, beside a running HAProxy %.2f s, floor %.2f s", run+1, b.cfg.runs, c, again, least)
		cold, beside, floor = append(cold, c), append(beside, again), append(floor, least)
		if run+1 == b.cfg.runs {
			break
		}
		if err := errors.Join(s.lb.Sidecar.Kill(), s.lb.HAProxy.Kill(), s.forget()); err != nil {
			return err
		}
	}
	first := Figure{Name: "ready, with HAProxy's start", Unit: "s", Values: []Value{{sidecar, spread(cold)}, {"floor", spread(floor)}}}
	first.setLimit(1.5)
	second := Figure{Name: "ready, beside a running HAProxy", Unit: "s", Values: []Value{{sidecar, spread(beside)}}}
	b.result.Figures = append(b.result.Figures, first, second)
	if !b.wantsProfile() {
		return nil
	}
	if err := errors.Join(s.lb.Sidecar.Kill(), s.lb.HAProxy.Kill(), s.forget()); err != nil {
		return err
	}
	s.lb.SetEnviron(profileVariable+"="+b.profileFile(), profileAtStart+"=1")
	return b.profile(ctx, s.lb, func() error {
		_, err := s.coldStart(ctx)
		return err
	})
}

const startLimit = time.Minute

// coldStart starts the sidecar and, once there is a file, HAProxy.
func (s *site) coldStart(ctx context.Context) (seconds float64, err error) {
	began := time.Now()
	if err := errors.Join(s.lb.StartSidecar(), s.lb.StartHAProxy(ctx), s.lb.Ready(ctx, startLimit)); err != nil {
		return 0, err
	}
	seconds = time.Since(began).Seconds()
	return seconds, s.findServers(ctx)
}

// startBeside restarts the sidecar; HAProxy runs on.
func (s *site) startBeside(ctx context.Context) (seconds float64, err error) {
	if err := s.lb.Sidecar.Stop(startLimit); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := errors.Join(s.lb.StartSidecar(), s.lb.Ready(ctx, startLimit)); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// leastStart is one bare query for the service, and the start of the bare
// HAProxy with as many servers.
func (s *site) leastStart(ctx context.Context) (seconds float64, err error) {
	if err := s.bare.HAProxy.Kill(); err != nil {
		return 0, err
	}
	began := time.Now()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	url := fmt.Sprintf("http://%s/v1/health/service/%s", s.consul.Address(), floorService)
	if _, err := query(ctx, client, url, ""); err != nil {
		return 0, err
	}
	if err := s.bare.StartHAProxy(ctx); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// forget removes what the sidecar has written.
func (s *site) forget() error {
	var errs []error
	for _, name := range []string{s.lb.Config(), s.lb.Socket(), s.lb.Master()} {
		if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

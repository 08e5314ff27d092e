package main

import (
	"context"
	"errors"
	"time"
)

func consulKinds() []kind {
	needs := func(fault) []string { return []string{consul} }
	return []kind{
		{"consul killed, memory lost", 0, 8 * time.Second, needs, consulKilled},
		{"consul frozen", time.Second, 6 * time.Second, needs, consulFrozen},
	}
}

func consulKilled(ctx context.Context, s *site, f fault, _ *hold) error {
	if err := s.consul.Kill(); err != nil {
		return err
	}
	pause(ctx, f.length)
	if err := s.consul.Restart(ctx); err != nil {
		return err
	}
	return s.findable(ctx)
}

func consulFrozen(ctx context.Context, s *site, f fault, _ *hold) error {
	if err := freeze(ctx, s.consul.Process, f.length); err != nil {
		return err
	}
	return s.findable(ctx)
}

// findable waits until clients find all load balancers in Consul.
func (s *site) findable(ctx context.Context) (err error) {
	for _, lb := range s.lbs {
		err = errors.Join(err, lb.Joined(ctx, mendLimit, "passing"))
	}
	return err
}

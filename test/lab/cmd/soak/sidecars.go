package main

import (
	"context"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

func sidecarKinds() []kind {
	needs := func(f fault) []string { return []string{sidecarOf(f.lb)} }
	return []kind{
		{"sidecar killed", 0, 8 * time.Second, needs, sidecarKilled},
		{"sidecar stopped in order", 0, 5 * time.Second, needs, sidecarTerminated},
		{"sidecar frozen", time.Second, 8 * time.Second, needs, sidecarFrozen},
	}
}

func sidecarKilled(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	if err := lb.Sidecar.Kill(); err != nil {
		return err
	}
	pause(ctx, f.length)
	return lb.startSidecar(ctx)
}

func sidecarTerminated(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	if err := lb.Sidecar.Stop(30 * time.Second); err != nil {
		return err
	}
	pause(ctx, f.length)
	return lb.startSidecar(ctx)
}

func sidecarFrozen(ctx context.Context, s *site, f fault, _ *hold) error {
	return freeze(ctx, s.lbs[f.lb].Sidecar, f.length)
}

// freeze stops a process in the middle of whatever it does, for a while.
func freeze(ctx context.Context, p *lab.Process, length time.Duration) error {
	if err := p.Freeze(); err != nil {
		return err
	}
	pause(ctx, length)
	return p.Thaw()
}

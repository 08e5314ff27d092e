package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// manyFleet is the fleet of many services.
var manyFleet = fleet{services: 1000, instances: 10}

const idleTime = 20 * time.Second

// idle measures what the sidecar takes while nothing changes.
func idle(ctx context.Context, b *bench) error {
	s, err := b.startSite(ctx, manyFleet)
	if err != nil {
		return err
	}
	// The collection of what the start has left behind is not idling.
	if err := pause(ctx, 2*settleTime); err != nil {
		return err
	}
	var shares, consulShares, memory []float64
	// Half of the runs, because one takes long and varies little.
	for run := range (b.cfg.runs + 1) / 2 {
		used, consul, err := s.shares(ctx, idleTime)
		if err != nil {
			return err
		}
		mib, err := residentMiB(s.lb.Sidecar.PID())
		if err != nil {
			return err
		}
		b.step("run %d: %.1f %% of a core, Consul %.1f %%, %.0f MiB", run+1, used, consul, mib)
		shares, consulShares, memory = append(shares, used), append(consulShares, consul), append(memory, mib)
	}
	b.result.Runs = len(shares)
	cpu := Figure{Name: "processor", Unit: "% of a core", Values: []Value{{sidecar, spread(shares)}, {"Consul", spread(consulShares)}}}
	cpu.setLimit(1)
	resident := Figure{Name: "resident memory", Unit: "MiB", Values: []Value{{sidecar, spread(memory)}}}
	resident.setLimit(80)
	b.result.Figures = append(b.result.Figures, cpu, resident)
	if !b.wantsProfile() {
		return nil
	}
	return b.profile(ctx, s.lb, func() error { return pause(ctx, idleTime) })
}

// shares returns what sidecar and Consul take of a core, in per cent.
func (s *site) shares(ctx context.Context, d time.Duration) (sidecar, consul float64, err error) {
	var group errgroup.Group
	group.Go(func() (err error) {
		sidecar, err = share(ctx, d, s.lb.Sidecar.PID())
		return err
	})
	group.Go(func() (err error) {
		consul, err = share(ctx, d, s.consul.PID())
		return err
	})
	return sidecar, consul, group.Wait()
}

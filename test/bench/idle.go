package main

import (
	"context"
	"errors"
	"time"
)

// manyFleet is the fleet of many services.
var manyFleet = fleet{services: 1000, instances: 10}

const idleTime = 20 * time.Second

// idle measures what the sidecar takes while nothing changes.
func idle(ctx context.Context, b *bench) error {
	s, err := b.newSite(ctx, manyFleet)
	if err != nil {
		return err
	}
	if err := s.startSidecar(ctx, b); err != nil {
		return err
	}
	// The collection of what the start has left behind is not idling.
	if err := pause(ctx, 2*settleTime); err != nil {
		return err
	}
	var shares, consulShares, memory []float64
	// Half of the runs, because one takes long and varies little.
	for run := range (b.cfg.runs + 1) / 2 {
		share, consul, err := s.shares(ctx, idleTime)
		if err != nil {
			return err
		}
		mib, err := residentMiB(s.lb.Sidecar)
		if err != nil {
			return err
		}
		b.step("run %d: %.1f %% of a core, Consul %.1f %%, %.0f MiB", run+1, share, consul, mib)
		shares, consulShares, memory = append(shares, share), append(consulShares, consul), append(memory, mib)
	}
	b.result.Runs = len(shares)
	cpu := Figure{Name: "processor", Unit: "% of a core", Values: []Value{{"sidecar", spread(shares)}, {"Consul", spread(consulShares)}}}
	cpu.setLimit(1)
	resident := Figure{Name: "resident memory", Unit: "MiB", Values: []Value{{"sidecar", spread(memory)}}}
	resident.setLimit(80)
	b.result.Figures = append(b.result.Figures, cpu, resident)
	if !b.wantsProfile() {
		return nil
	}
	return b.profile(ctx, s.lb, func() error { return pause(ctx, idleTime) })
}

// shares returns what sidecar and Consul take of a core, in per cent.
func (s *site) shares(ctx context.Context, d time.Duration) (sidecar, consul float64, err error) {
	began := time.Now()
	before, err1 := cpuTime(s.lb.Sidecar.PID())
	consulBefore, err2 := cpuTime(s.consul.PID())
	if err := errors.Join(err1, err2, pause(ctx, d)); err != nil {
		return 0, 0, err
	}
	after, err1 := cpuTime(s.lb.Sidecar.PID())
	consulAfter, err2 := cpuTime(s.consul.PID())
	took := time.Since(began).Seconds()
	return 100 * (after - before).Seconds() / took, 100 * (consulAfter - consulBefore).Seconds() / took, errors.Join(err1, err2)
}

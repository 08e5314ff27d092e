package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// noopFleets are one small fleet, and two that are a hundred times as large in
// one way each.
var noopFleets = []fleet{{services: 1, instances: 10}, {services: 1, instances: 1000}, {services: 100, instances: 10}}

const (
	noopChanges = 50
	noopEvery   = 200 * time.Millisecond
	// noopGrowth is how much more the large fleets may take than the small one.
	noopGrowth = 1.5
)

// allocated is what the sidecar has allocated since it started.
type allocated struct{ objects, bytes float64 }

func (a allocated) minus(b allocated) allocated {
	return allocated{a.objects - b.objects, a.bytes - b.bytes}
}

// noop measures what the sidecar allocates, above what it allocates anyway, for
// each answer of Consul in which only the text of one check is another: it must
// not grow with the fleet.
func noop(ctx context.Context, b *bench) error {
	var all []allocated
	for _, f := range noopFleets {
		a, err := b.allocatedFor(ctx, f)
		if err != nil {
			return err
		}
		b.step("%d × %d: %.0f objects, %.0f KiB for each change", f.services, f.instances, a.objects, a.bytes/1024)
		all = append(all, a)
	}
	b.result.Runs, b.result.Changes = 1, noopChanges
	for i, f := range noopFleets {
		objects, kib := all[i].objects, all[i].bytes/1024
		for _, entry := range []Figure{single("objects", "", sidecar, objects), single("memory", "KiB", sidecar, kib)} {
			base := all[0].objects
			if entry.Unit != "" {
				base = all[0].bytes / 1024
			}
			entry.Name = fmt.Sprintf("%s, %s × %s", entry.Name, thousands(f.services), thousands(f.instances))
			if i > 0 {
				entry.setGoal(noopGrowth, "1 × 10", []float64{entry.Values[0].Median}, []float64{base})
			}
			b.result.Figures = append(b.result.Figures, entry)
		}
	}
	return nil
}

func (b *bench) allocatedFor(ctx context.Context, f fleet) (each allocated, err error) {
	s, err := b.startSite(ctx, f)
	if err != nil {
		return each, err
	}
	if err := pause(ctx, settleTime); err != nil {
		return each, err
	}
	start, err := s.allocated(ctx)
	if err := errors.Join(err, pause(ctx, noopChanges*noopEvery)); err != nil {
		return each, err
	}
	quiet, err := s.allocated(ctx)
	if err != nil {
		return each, err
	}
	for k := range noopChanges {
		began := time.Now()
		if err := errors.Join(s.services[0][0].touch(ctx, s.consul.Client, k), pause(ctx, noopEvery-time.Since(began))); err != nil {
			return each, err
		}
	}
	busy, err := s.allocated(ctx)
	above := busy.minus(quiet).minus(quiet.minus(start))
	each = allocated{above.objects / noopChanges, above.bytes / noopChanges}
	return each, errors.Join(err, s.lb.Sidecar.Kill(), s.lb.HAProxy.Kill(), s.bare.HAProxy.Kill(), s.consul.Kill(), s.forget())
}

func (s *site) allocated(ctx context.Context) (a allocated, err error) {
	a.objects, err = s.lb.Metric(ctx, "go_memstats_mallocs_total")
	var errBytes error
	a.bytes, errBytes = s.lb.Metric(ctx, "go_memstats_alloc_bytes_total")
	return a, errors.Join(err, errBytes)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	deploymentCount = 50
	// warmDeployments come before the ones from which memory is compared.
	warmDeployments = 10
)

// held is what the processes hold after a deployment.
type held struct {
	sidecarMiB, haproxyMiB     float64
	sidecarFiles, haproxyFiles int
	oldWorkers                 int
}

// deployments replaces three nodes by three others, again and again, under
// traffic: nothing fails, nothing is reloaded, and nothing piles up.
func deployments(ctx context.Context, b *bench) error {
	s, err := b.startSite(ctx, fleet{services: 1, instances: 10}, live)
	if err != nil {
		return err
	}
	serving, err := s.startNodes(ctx, b.lab, "0", nil)
	if err != nil {
		return err
	}
	before, err := s.lb.WorkerPID(ctx)
	if err != nil {
		return err
	}
	quiet, err := s.quiet(ctx, b.lab)
	if err != nil {
		return err
	}
	var after []held
	during, err := s.traffic(b.lab, "client-deploy", func() error {
		for i := range deploymentCount {
			fresh, err := s.startNodes(ctx, b.lab, fmt.Sprint(i+1), serving)
			if err != nil {
				return err
			}
			if err := errors.Join(stopNodes(serving), s.lb.Routes(ctx, nodeLimit, liveService, lab.NodeIDs(fresh...)...)); err != nil {
				return err
			}
			serving = fresh
			now, err := s.holds(ctx)
			if err != nil {
				return err
			}
			after = append(after, now)
			if (i+1)%warmDeployments == 0 {
				b.step("%d of %d deployments: sidecar %.0f MiB, %d files; HAProxy %.0f MiB, %d files", i+1, deploymentCount, now.sidecarMiB, now.sidecarFiles, now.haproxyMiB, now.haproxyFiles)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	apply, err := s.applyTime(ctx)
	if err != nil {
		return err
	}
	pid, err := s.lb.WorkerPID(ctx)
	reloads := 0.0
	if pid != before {
		reloads = 1
	}
	b.result.Runs, b.result.Changes = 1, deploymentCount
	b.result.Figures = append(b.result.Figures, failures(quiet.Failed+during.Failed), none("reloads", reloads), slowdown(during.P99, quiet.P99), apply)
	b.result.Figures = append(b.result.Figures, growth(after)...)
	return err
}

// applyTime is how long the sidecar took from Consul's answers until HAProxy
// was seen to run them, by its own metric.
func (s *site) applyTime(ctx context.Context) (Figure, error) {
	metrics, err := s.lb.Metrics(ctx)
	if err != nil {
		return Figure{}, err
	}
	all, total, err := lab.Buckets(metrics, "pointsman_apply_seconds")
	p50, p99 := 1000*lab.Quantile(all, total, 0.5), 1000*lab.Quantile(all, total, 0.99)
	f := Figure{Name: "p99 of the sidecar's own apply time", Unit: "ms", Values: []Value{{"p99", spread([]float64{p99})}, {"p50", spread([]float64{p50})}}}
	f.setGoal(3, "p50", []float64{p99}, []float64{p50})
	return f, err
}

// holds waits for nothing: what is closed late shows as growth only if it is
// not closed by the next deployment.
func (s *site) holds(ctx context.Context) (h held, err error) {
	worker, errPID := s.lb.WorkerPID(ctx)
	var errs [5]error
	h.sidecarMiB, errs[0] = residentMiB(s.lb.Sidecar.PID())
	h.haproxyMiB, errs[1] = residentMiB(worker)
	h.sidecarFiles, errs[2] = openFiles(s.lb.Sidecar.PID())
	h.haproxyFiles, errs[3] = openFiles(worker)
	h.oldWorkers, errs[4] = s.lb.OldWorkers(ctx)
	return h, errors.Join(append(errs[:], errPID)...)
}

// growth compares the median of the last deployments with that of as many after
// the first ones.
func growth(after []held) (figures []Figure) {
	early, late := after[warmDeployments:2*warmDeployments], after[len(after)-warmDeployments:]
	for _, f := range []struct {
		name, unit string
		of         func(held) float64
		room       float64 // that the growth may have, as a share
	}{
		{"resident memory of the sidecar", "MiB", func(h held) float64 { return h.sidecarMiB }, 1.15},
		{"resident memory of HAProxy", "MiB", func(h held) float64 { return h.haproxyMiB }, 1.15},
		{"open files of the sidecar", "", func(h held) float64 { return float64(h.sidecarFiles) }, 1.15},
		{"open files of HAProxy", "", func(h held) float64 { return float64(h.haproxyFiles) }, 1.15},
	} {
		first, last := spread(each(early, f.of)), spread(each(late, f.of))
		entry := Figure{Name: f.name, Unit: f.unit, Values: []Value{{fmt.Sprintf("deployments %d to %d", len(after)-warmDeployments+1, len(after)), last}, {fmt.Sprintf("%d to %d", warmDeployments+1, 2*warmDeployments), first}}}
		entry.setGoal(f.room, "before", []float64{last.Median}, []float64{first.Median})
		figures = append(figures, entry)
	}
	old := slices.Max(each(after, func(h held) float64 { return float64(h.oldWorkers) }))
	return append(figures, none("old workers", old))
}

func each(all []held, of func(held) float64) (values []float64) {
	for _, h := range all {
		values = append(values, of(h))
	}
	return values
}

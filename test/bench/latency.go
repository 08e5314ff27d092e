package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// latency is a row that measures how long changes take.
type latency struct {
	fleet    fleet
	flips    bool // a check flips; else a weight changes
	every    time.Duration
	changes  int      // in a block
	blocks   int      // of each subject in a run
	p50, p99 float64  // goals, as multiples; 0: none
	peers    []string // measured too, each on a service of its own
	goalOf   string   // whose multiples the goals are; empty: the floor's
}

func (l latency) measure(ctx context.Context, b *bench) error {
	s, err := b.startSite(ctx, l.fleet)
	if err != nil {
		return err
	}
	return l.measureOn(ctx, b, s, l.subjects)
}

// measureOn measures the subjects that are made, the sidecar first, and notes the figures.
func (l latency) measureOn(ctx context.Context, b *bench, s *site, subjectsOf func(context.Context, *bench, *site, *errgroup.Group) ([]*subject, error)) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	subjects, err := subjectsOf(ctx, b, s, group)
	if err != nil {
		return err
	}
	measured := l.runs(ctx, b, s, subjects)
	if measured == nil && b.wantsProfile() {
		measured = b.profile(ctx, s.lb, func() error {
			_, err := subjects[0].measure(ctx, l.changes*l.blocks, l.every)
			return err
		})
	}
	stop()
	return errors.Join(measured, group.Wait())
}

// subjects returns the sidecar, the floor, and the peers whose programs are
// there.
func (l latency) subjects(ctx context.Context, b *bench, s *site, group *errgroup.Group) ([]*subject, error) {
	first, err := l.subject(ctx, s, sidecar, s.lb.Socket(), l.targets(s.services))
	if err != nil {
		return nil, err
	}
	floor, err := l.subject(ctx, s, "floor", s.bare.Socket(), l.targets([][]instance{s.floor}))
	if err != nil {
		return nil, err
	}
	command := weightCommand
	if l.flips {
		command = statusCommand
	}
	f, err := newFollower(ctx, s, command)
	if err != nil {
		return nil, err
	}
	f.changed = floor.unseen
	group.Go(func() error { return f.run(ctx) })
	all := []*subject{first, floor}
	for i, name := range l.peers {
		peer, err := l.startPeer(ctx, b, s, name, l.fleet.services+1+i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if peer != nil {
			all = append(all, peer)
		}
	}
	return all, pause(ctx, settleTime)
}

// subject returns one whose changes show on a runtime socket.
func (l latency) subject(ctx context.Context, s *site, name, path string, targets []instance) (*subject, error) {
	socket, err := openSocket(ctx, path)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, socket.close)
	look := socket.weights
	if l.flips {
		look = socket.up
	}
	return l.watched(s, name, targets, look), nil
}

// watched returns one whose changes show otherwise.
func (l latency) watched(s *site, name string, targets []instance, look func([]string) ([]int, error)) *subject {
	change, next := instance.setWeight, nextWeight
	if l.flips {
		change, next = instance.setPassing, nextStatus
	}
	return &subject{
		name: name, targets: targets, next: next, look: look,
		change: func(ctx context.Context, i instance, v int) error { return change(i, ctx, s.consul.Client, v) },
	}
}

// targets spreads the changes over the fleet: over all services, or over the
// instances of the only one. A check that flips is one instance's.
func (l latency) targets(services [][]instance) (targets []instance) {
	const most = 100
	if l.flips {
		return services[0][:1]
	}
	if len(services) > 1 {
		for k := range most {
			targets = append(targets, services[k*len(services)/most][k%l.fleet.instances])
		}
		return targets
	}
	step := max(1, l.fleet.instances/most)
	for i := 0; i < l.fleet.instances; i += step {
		targets = append(targets, services[0][i])
	}
	return targets
}

// runs measures all subjects in turn, in blocks, and notes the figures.
func (l latency) runs(ctx context.Context, b *bench, s *site, subjects []*subject) error {
	before, err := s.lb.WorkerPID(ctx)
	if err != nil {
		return err
	}
	took := make([][][]time.Duration, len(subjects)) // by subject and run
	for run := range b.cfg.runs {
		for i := range subjects {
			took[i] = append(took[i], nil)
		}
		for range l.blocks {
			for i, subject := range subjects {
				block, err := subject.measure(ctx, l.changes, l.every)
				if err != nil {
					return err
				}
				took[i][run] = append(took[i][run], block...)
			}
		}
		var parts []string
		for i, subject := range subjects {
			parts = append(parts, fmt.Sprintf("%s %s / %s ms", subject.name, figure(quantile(took[i][run], 0.5)), figure(quantile(took[i][run], 0.99))))
		}
		b.step("run %d of %d: p50 / p99 %s", run+1, b.cfg.runs, strings.Join(parts, ", "))
	}
	after, err := s.lb.WorkerPID(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return errors.New("HAProxy was reloaded meanwhile")
	}
	l.note(b, subjects, took)
	return nil
}

// note notes the figures and how they compare with what the goals are
// multiples of.
func (l latency) note(b *bench, subjects []*subject, took [][][]time.Duration) {
	b.result.Changes = len(took[0]) * len(took[0][0])
	base := 1
	if l.goalOf != "" {
		base = slices.IndexFunc(subjects, func(s *subject) bool { return s.name == l.goalOf })
	}
	for _, f := range []struct {
		name    string
		q, goal float64
	}{{"p50", 0.5, l.p50}, {"p99", 0.99, l.p99}} {
		entry := Figure{Name: f.name, Unit: "ms"}
		var series [][]float64
		for i, subject := range subjects {
			series = append(series, quantiles(took[i], f.q))
			entry.Values = append(entry.Values, Value{Of: subject.name, Spread: spread(series[i])})
		}
		switch {
		case f.goal == 0:
		case base < 0:
			entry.Goal, entry.Note = fmt.Sprintf("≤ %g × %s", f.goal, l.goalOf), l.goalOf+" was not there"
		default:
			entry.setGoal(f.goal, subjects[base].name, series[0], series[base])
		}
		b.result.Figures = append(b.result.Figures, entry)
	}
}

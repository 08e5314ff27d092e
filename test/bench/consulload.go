package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// point is one measurement of what followers cost Consul: the number of
// followers with a blocking query each, and the size of their service.
type point struct {
	followers, instances int
	changes              int
}

// The first three points give the formula its numbers, the others check it.
var consulPoints = []point{
	{1, 10, 400},
	{100, 10, 100},
	{10, 5000, 10},
	{10, 1000, 40},
	{50, 1000, 15},
	{100, 100, 60},
	{3, 10_000, 10},
}

// consulFormula is what one change costs Consul, in milliseconds of a core: a
// part of its own, a part for each follower, and a part for each instance in
// each follower's answer.
type consulFormula struct{ change, follower, instance float64 }

func (f consulFormula) cost(p point) float64 {
	l := float64(p.followers)
	return f.change + l*(f.follower+f.instance*float64(p.instances))
}

// solve finds the formula that three points with their costs fit exactly.
func solve(p [3]point, cost [3]float64) (f consulFormula) {
	// From the first two, whose services are of one size.
	perFollower := (cost[1] - cost[0]) / float64(p[1].followers-p[0].followers)
	f.change = cost[0] - float64(p[0].followers)*perFollower
	f.instance = ((cost[2]-f.change)/float64(p[2].followers) - perFollower) / float64(p[2].instances-p[0].instances)
	f.follower = perFollower - f.instance*float64(p[0].instances)
	return f
}

// idleFollowers and idleServices are of the measurement while nothing changes.
const idleFollowers, idleServices = 10, 100

// consulLoad measures what followers cost Consul for each change, and whether
// the formula of docs/scale.md tells it. The followers are bare ones: Consul's
// part is the same for each client.
func consulLoad(ctx context.Context, b *bench) error {
	var costs []float64
	for _, p := range consulPoints {
		cost, err := b.consulCost(ctx, p)
		if err != nil {
			return err
		}
		b.step("%d followers of %d instances: %.2f ms of a core for each change", p.followers, p.instances, cost)
		costs = append(costs, cost)
	}
	formula := solve([3]point(consulPoints[:3]), [3]float64(costs[:3]))
	b.result.Runs = 1
	for i, p := range consulPoints {
		f := Figure{Name: fmt.Sprintf("a change, %d followers of %s instances", p.followers, thousands(p.instances)), Unit: "ms of a core", Values: []Value{
			{"Consul", spread([]float64{costs[i]})}, {"formula", spread([]float64{formula.cost(p)})},
		}}
		if i > 2 {
			ratio := spread([]float64{costs[i] / formula.cost(p)})
			f.Ratio = &ratio
		}
		b.result.Figures = append(b.result.Figures, f)
		b.result.Changes += p.changes
	}
	b.result.Figures = append(b.result.Figures,
		single("formula: a change", "µs", "Consul", 1000*formula.change),
		single("formula: for each follower", "µs", "Consul", 1000*formula.follower),
		single("formula: for each instance in an answer", "µs", "Consul", 1000*formula.instance))
	return b.consulIdle(ctx)
}

// consulCost returns the processor time that Consul takes for one change of a
// service that followers follow, in milliseconds.
func (b *bench) consulCost(ctx context.Context, p point) (float64, error) {
	s, err := b.newConsul(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.consul.Kill() }() // the row's end would end it, too
	s.floor = fleet{services: 1, instances: p.instances}.service(floorService, 0)
	if err := register(ctx, s.consul.Client, s.floor); err != nil {
		return 0, err
	}
	answers := make(chan struct{}, p.followers)
	followers, ctx, stop := follow(ctx, s.healthURLs(p.followers, floorService), answers)
	defer stop()
	if err := await(ctx, answers, p.followers); err != nil {
		return 0, err
	}
	before, err := cpuTime(s.consul.PID())
	if err != nil {
		return 0, err
	}
	for k := range p.changes {
		if err := s.floor[k%len(s.floor)].setWeight(ctx, s.consul.Client, k/len(s.floor)%200+2); err != nil {
			return 0, err
		}
		// The next change waits until every follower has this one.
		if err := await(ctx, answers, p.followers); err != nil {
			return 0, err
		}
	}
	after, err := cpuTime(s.consul.PID())
	stop()
	return milliseconds(after-before) / float64(p.changes), errors.Join(err, followers.Wait())
}

// consulIdle measures what queries that wait cost Consul.
func (b *bench) consulIdle(ctx context.Context) error {
	s, err := b.newConsul(ctx)
	if err != nil {
		return err
	}
	var names []string
	for i := range idleServices {
		names = append(names, fmt.Sprintf("svc%d", i))
		s.services = append(s.services, fleet{services: idleServices, instances: 10}.service(names[i], i))
	}
	if err := registerAll(ctx, s.consul.Client, s.services); err != nil {
		return err
	}
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	alone, err1 := share(ctx, idleTime/2, s.consul.PID())
	aloneMiB, err2 := residentMiB(s.consul.PID())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	answers := make(chan struct{}, idleFollowers*idleServices)
	followers, ctx, stop := follow(ctx, s.healthURLs(idleFollowers, names...), answers)
	defer stop()
	if err := errors.Join(await(ctx, answers, idleFollowers*idleServices), pause(ctx, settleTime)); err != nil {
		return err
	}
	with, err1 := share(ctx, idleTime/2, s.consul.PID())
	withMiB, err2 := residentMiB(s.consul.PID())
	stop()
	one := func(of string, v float64) Value { return Value{of, spread([]float64{v})} }
	b.result.Figures = append(b.result.Figures,
		Figure{Name: "1,000 queries that wait, processor", Unit: "% of a core", Values: []Value{one("Consul", with), one("without", alone)}},
		Figure{Name: "1,000 queries that wait, memory", Unit: "MiB", Values: []Value{one("Consul", withMiB), one("without", aloneMiB)}})
	return errors.Join(err1, err2, followers.Wait())
}

// follow starts a follower for each URL, which says so after each answer.
func follow(ctx context.Context, urls []string, answers chan<- struct{}) (*errgroup.Group, context.Context, context.CancelFunc) {
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: len(urls)}}
	context.AfterFunc(ctx, client.CloseIdleConnections)
	for _, url := range urls {
		group.Go(func() error {
			index, err := query(ctx, client, url, "")
			for err == nil {
				answers <- struct{}{}
				index, err = query(ctx, client, url, index)
			}
			if ctx.Err() == nil {
				return err
			}
			return nil // it was asked to end
		})
	}
	return group, ctx, stop
}

// healthURLs returns a URL for each follower of each service.
func (s *site) healthURLs(followers int, services ...string) (urls []string) {
	for range followers {
		for _, name := range services {
			urls = append(urls, fmt.Sprintf("http://%s/v1/health/service/%s", s.consul.Address(), name))
		}
	}
	return urls
}

// await waits for answers.
func await(ctx context.Context, answers <-chan struct{}, count int) error {
	limit := time.NewTimer(lostAfter)
	defer limit.Stop()
	for i := range count {
		select {
		case <-answers:
		case <-limit.C:
			return fmt.Errorf("%d of %d followers have no answer after %s", count-i, count, lostAfter)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// rightLimit is how long after the last fault all must be right.
const rightLimit = time.Minute

// verdict waits until all is right, stops the clients, and says how it was.
func (s *site) verdict(ctx context.Context) (report, error) {
	r := report{Seed: s.cfg.seed, Faults: s.made}
	ended := time.Now()
	s.logf("no more faults")
	for _, lb := range s.lbs {
		if err := lab.Until(ctx, rightLimit, lb.Name+" is right", func() error { return s.right(ctx, lb) }); err != nil {
			s.wrong("%v", err)
		}
	}
	r.RightSeconds = round(time.Since(ended))
	if err := s.stopClients(&r); err != nil {
		return r, err
	}
	for _, lb := range s.lbs {
		s.leftovers(ctx, lb)
		now, err := lb.figures(ctx)
		if err != nil {
			s.wrong("%s: %v", lb.Name, err)
		}
		r.Sidecars = append(r.Sidecars, sidecarFigures{lb.Name, lb.first, now})
		r.Reloads += lb.reloads.Load()
		if w := now.worse(lb.first); w != "" {
			s.wrong("%s's sidecar: %s", lb.Name, w)
		}
	}
	r.Seconds = round(time.Since(s.began))
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	r.Wrong = s.bad
	return r, nil
}

// right compares what Consul has with what HAProxy runs and what its file says,
// each by its own word.
func (s *site) right(ctx context.Context, lb *balancer) error {
	if err := lb.Ready(ctx, time.Second); err != nil {
		return err
	}
	st, err := lb.State(ctx)
	if err != nil {
		return err
	}
	if r := st.Reloads; r.Pending != "" || r.Error != "" || st.File.Error != "" {
		return fmt.Errorf("%+v, %+v", r, st.File)
	}
	for _, svc := range lb.Services() {
		if err := s.serviceRight(ctx, lb, svc.Name); err != nil {
			return fmt.Errorf("%s: %w", svc.Name, err)
		}
	}
	return nil
}

func (s *site) serviceRight(ctx context.Context, lb *balancer, service string) error {
	want, err := s.passing(ctx, service)
	if err != nil {
		return err
	}
	if own := s.serving(service); !slices.Equal(want, own) {
		return fmt.Errorf("%v serve, Consul has %v", own, want)
	}
	runs, err := lb.Servers(ctx, service)
	if err != nil {
		return err
	}
	file, err := lb.FileServers(service)
	if err != nil {
		return err
	}
	if got := up(runs); !slices.Equal(got, want) {
		return fmt.Errorf("HAProxy runs %v, Consul has %v", got, want)
	}
	if got := up(file); !slices.Equal(got, want) {
		return fmt.Errorf("haproxy.cfg has %v, Consul has %v", got, want)
	}
	return nil
}

// up is "address weight" of the servers that take traffic, sorted.
func up(servers []lab.Server) (all []string) {
	for _, sv := range servers {
		if sv.Up {
			all = append(all, fmt.Sprintf("%s weight %d", sv.Addr, sv.Weight))
		}
	}
	slices.Sort(all)
	return all
}

// passing is the same of Consul's instances: those whose checks all pass. Each
// has Consul's own weight, 1.
func (s *site) passing(ctx context.Context, service string) (all []string, err error) {
	entries, _, err := s.consul.Client.Health().Service(service, "", true, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	for _, e := range entries {
		all = append(all, fmt.Sprintf("%s:%d weight %d", e.Service.Address, e.Service.Port, e.Service.Weights.Passing))
	}
	slices.Sort(all)
	return all, err
}

// serving is the same of the nodes that run.
func (s *site) serving(service string) (all []string) {
	nodes := []*lab.Node{s.extra}
	for i, f := range fleets {
		if f.service == service {
			nodes = s.nodes[i]
		}
	}
	for _, n := range nodes {
		all = append(all, n.Addr()+" weight 1")
	}
	slices.Sort(all)
	return all
}

// leftovers waits until the last old worker has ended: no client has a request
// any more, and hard-stop-after ends it at the latest.
func (s *site) leftovers(ctx context.Context, lb *balancer) {
	if err := lab.Until(ctx, 40*time.Second, lb.Name+" has no old workers", func() error {
		n, err := lb.OldWorkers(ctx)
		if err == nil && n > 0 {
			err = fmt.Errorf("it has %d", n)
		}
		return err
	}); err != nil {
		s.wrong("%v", err)
	}
}

func (s *site) stopClients(r *report) error {
	for _, c := range s.client {
		cr, err := c.Finish(clientTimeout + 10*time.Second)
		if err != nil {
			return err
		}
		r.Requests += cr.Requests
		r.Failed += cr.FailedIdempotent
		r.Max = max(r.Max, cr.Max)
		r.P99 = max(r.P99, cr.P99)
		r.failures = append(r.failures, failuresOf(c)...)
		if cr.Requests == 0 {
			return errors.New(c.Name + " has sent nothing")
		}
	}
	return nil
}

// failuresOf is what a client says of its failures, with their times.
func failuresOf(c *lab.Client) (lines []string) {
	for line := range strings.Lines(c.Tail(1 << 20)) {
		if strings.Contains(line, "more requests failed") || strings.Contains(line, "request failed") {
			lines = append(lines, c.Name+": "+strings.TrimSpace(line))
		}
	}
	const most = 20
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("%s: and %d lines more in its log", c.Name, more))
	}
	return lines
}

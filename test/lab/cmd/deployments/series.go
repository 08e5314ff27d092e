package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	service  = "api"
	replicas = 3
	// leaveLimit is more than any node may take to leave.
	leaveLimit = 90 * time.Second
)

// series is the deployments while they run.
type series struct {
	cfg     config
	lab     *lab.Lab
	consul  *lab.Consul
	lbs     []*lab.Balancer
	pids    []int // of their workers: one that stays was not reloaded
	clients []*lab.Client
	slow    *slowClients
	out     *json.Encoder
	began   time.Time

	nodes []*lab.Node // that serve now
	next  int         // number of the next node

	sums sums
}

// deployment is one line of the report.
type deployment struct {
	Deployment int       `json:"deployment"`
	Version    string    `json:"version"`
	Requests   uint64    `json:"requests"` // that have ended meanwhile
	Failed     uint64    `json:"failed"`
	Reloads    int       `json:"reloads"`
	Seconds    float64   `json:"seconds"`
	LeaveMS    []float64 `json:"leave_ms"` // of each node, from SIGTERM to its exit
	AckMS      []float64 `json:"ack_ms"`   // to the last load balancer's word that it has drained
}

func (s *series) run(ctx context.Context) error {
	if err := s.setUp(ctx); err != nil {
		return err
	}
	for i := range s.cfg.n {
		d, err := s.deploy(ctx, i+1)
		if err != nil {
			return fmt.Errorf("deployment %d: %w", i+1, err)
		}
		s.sums.add(d)
		if err := s.out.Encode(d); err != nil {
			return err
		}
	}
	return s.finish()
}

// setUp starts Consul, two load balancers, the first nodes and the clients.
func (s *series) setUp(ctx context.Context) error {
	var err error
	if s.consul, err = s.lab.StartConsul(ctx, 0); err != nil {
		return err
	}
	for i := range 2 {
		lb, err := s.lab.NewBalancer(fmt.Sprintf("lb%d", i), s.consul, lab.Service{Name: service})
		if err != nil {
			return err
		}
		if err := errors.Join(lb.Join("lb"), lb.Start(ctx)); err != nil {
			return err
		}
		pid, err := lb.WorkerPID(ctx)
		if err != nil {
			return err
		}
		s.lbs, s.pids = append(s.lbs, lb), append(s.pids, pid)
	}
	if s.nodes, err = s.start(ctx, "1.0"); err != nil {
		return err
	}
	if err := s.route(ctx, s.nodes); err != nil {
		return err
	}
	for i := range 2 {
		c, err := s.lab.StartClientOf(fmt.Sprintf("client%d", i), s.cfg.rate, s.consul, "lb")
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
	}
	s.slow = startSlow(ctx, s.cfg.slow, s.lbs)
	return lab.AllSend(ctx, s.clients...)
}

func (s *series) start(ctx context.Context, version string) ([]*lab.Node, error) {
	s.next += replicas
	return s.lab.StartNodes(ctx, s.consul, service, version, lab.Numbered("api", s.next-replicas, replicas)...)
}

// route waits until every load balancer routes to exactly these.
func (s *series) route(ctx context.Context, nodes []*lab.Node) error {
	for _, lb := range s.lbs {
		if err := lb.Routes(ctx, 30*time.Second, service, lab.NodeIDs(nodes...)...); err != nil {
			return err
		}
	}
	return nil
}

// deploy replaces all nodes by those of another version.
func (s *series) deploy(ctx context.Context, number int) (deployment, error) {
	d := deployment{Deployment: number, Version: fmt.Sprintf("1.%d", number)}
	began, before := time.Now(), s.counted()
	fresh, err := s.start(ctx, d.Version)
	if err != nil {
		return d, err
	}
	if err := s.route(ctx, append(append([]*lab.Node{}, s.nodes...), fresh...)); err != nil {
		return d, err
	}
	if err := s.leave(ctx, s.nodes, &d); err != nil {
		return d, err
	}
	if err := s.route(ctx, fresh); err != nil {
		return d, err
	}
	s.nodes = fresh
	after := s.counted()
	d.Seconds = time.Since(began).Seconds()
	d.Requests, d.Failed = after.Requests-before.Requests, after.Failed-before.Failed
	d.Reloads, err = s.reloads(ctx)
	return d, err
}

// leave stops nodes, all at once. Each has to be there until every load
// balancer has told us too, whom it knows nothing of, that it has no session.
func (s *series) leave(ctx context.Context, nodes []*lab.Node, d *deployment) error {
	d.LeaveMS, d.AckMS = make([]float64, len(nodes)), make([]float64, len(nodes))
	var group errgroup.Group
	for i, n := range nodes {
		group.Go(func() error {
			began := time.Now()
			if err := n.Terminate(); err != nil {
				return err
			}
			var acks errgroup.Group
			acked := make([]time.Time, len(s.lbs))
			for j, lb := range s.lbs {
				acks.Go(func() error {
					var err error
					acked[j], err = lb.DrainedAt(ctx, service, n.Name, leaveLimit)
					return err
				})
			}
			err := n.Wait(leaveLimit)
			left := time.Now()
			if err := errors.Join(err, acks.Wait()); err != nil {
				return err
			}
			d.LeaveMS[i] = milliseconds(left.Sub(began))
			for j, at := range acked {
				d.AckMS[i] = max(d.AckMS[i], milliseconds(at.Sub(began)))
				if left.Before(at) {
					return fmt.Errorf("%s was gone after %s, and %s let it go after %s", n.Name, left.Sub(began), s.lbs[j].Name, at.Sub(began))
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// counted is what the clients have counted so far.
func (s *series) counted() lab.Progress {
	sum := s.slow.progress()
	for _, c := range s.clients {
		p := c.Progress()
		sum.Requests += p.Requests
		sum.Failed += p.Failed
	}
	return sum
}

// reloads counts them by the workers' pids, whatever the sidecars say.
func (s *series) reloads(ctx context.Context) (n int, err error) {
	for i, lb := range s.lbs {
		pid, err := lb.WorkerPID(ctx)
		if err != nil {
			return 0, err
		}
		if pid != s.pids[i] {
			n++
			s.pids[i] = pid
		}
	}
	return n, nil
}

// finish stops the clients and writes the sums.
func (s *series) finish() error {
	slow := s.slow.stop()
	s.sums.Requests, s.sums.Failed = slow.Requests, slow.Failed
	s.sums.failures = s.slow.failures()
	for _, c := range s.clients {
		r, err := c.Finish(30 * time.Second)
		if err != nil {
			return err
		}
		s.sums.Requests += r.Requests
		s.sums.Failed += r.Failed
		for kind, n := range r.Failures {
			s.sums.failures = append(s.sums.failures, fmt.Sprintf("%s: %d %s", c.Name, n, kind))
		}
	}
	s.sums.close(time.Since(s.began))
	return s.out.Encode(&s.sums)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

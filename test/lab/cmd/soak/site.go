package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// site is all that runs.
type site struct {
	cfg    config
	lab    *lab.Lab
	disk   bool // a disk may be mounted
	consul *lab.Consul
	lbs    []*balancer
	extra  *lab.Node
	client []*lab.Client
	began  time.Time

	watching sync.WaitGroup
	stop     context.CancelFunc // ends what watches

	mu    sync.Mutex
	nodes [][]*lab.Node // by service and place
	made  map[string]int
	bad   []string // what went wrong besides requests
}

func newSite(cfg config, l *lab.Lab) *site {
	return &site{cfg: cfg, lab: l, disk: os.Getenv(inside) == "disk", began: time.Now(), made: map[string]int{}, stop: func() {}}
}

// setUp starts Consul, the load balancers, the nodes and the clients.
func (s *site) setUp(ctx context.Context) error {
	s.logf("seed %d: `make soak T=%s SEED=%d` has the same faults in the same order", s.cfg.seed, s.cfg.length, s.cfg.seed)
	var err error
	if s.disk {
		err = privateMounts()
	}
	if err != nil {
		return err
	}
	if s.consul, err = s.lab.StartConsul(ctx, 0); err != nil {
		return err
	}
	for i := range balancers {
		lb, err := newBalancer(ctx, s, fmt.Sprintf("lb%d", i))
		if err != nil {
			return err
		}
		s.lbs = append(s.lbs, lb)
	}
	if err := s.startNodes(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.findable(ctx), s.startClients(ctx)); err != nil {
		return err
	}
	for _, lb := range s.lbs {
		if lb.first, err = lb.figures(ctx); err != nil {
			return err
		}
	}
	s.watch(ctx)
	return nil
}

func (s *site) startNodes(ctx context.Context) (err error) {
	for _, f := range fleets {
		nodes, err := s.lab.StartNodes(ctx, s.consul, f.service, "1.0", lab.Numbered(f.service+"-", 0, f.nodes)...)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, nodes)
	}
	if s.extra, err = s.lab.StartNode(ctx, s.consul, extra, extra+"-0", "1.0"); err != nil {
		return err
	}
	for _, nodes := range s.nodes {
		for _, n := range nodes {
			if err := s.upOn(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// startClients starts one client for each service, and one whose requests take
// their time.
func (s *site) startClients(ctx context.Context) error {
	for _, c := range []struct {
		name, path string
		rate       int
	}{{"api", "/", s.cfg.rate}, {"web", "/web", s.cfg.rate}, {"slow", "/slow?ms=700", 1 + s.cfg.rate/10}} {
		client, err := s.lab.StartClientOf("client-"+c.name, c.rate, s.consul, "lb",
			"--path", c.path, "--idempotent-only", "--timeout", clientTimeout.String(), "--max-in-flight", "5000")
		if err != nil {
			return err
		}
		s.client = append(s.client, client)
	}
	return lab.AllSend(ctx, s.client...)
}

// tearDown ends what setUp has begun besides processes.
func (s *site) tearDown() {
	s.stop()
	s.watching.Wait()
	for _, lb := range s.lbs {
		_ = lb.saveDisk() // for a reader of the logs
		if s.disk {
			_ = lb.takeDisk() // it goes with us
		}
	}
}

func (s *site) node(f fault) *lab.Node { return s.nodeAt(f.service, f.node) }

func (s *site) nodeAt(service, place int) *lab.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[service][place]
}

func (s *site) setNode(service, place int, n *lab.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[service][place] = n
}

// logf writes one line with the time, of the run and of the day: the clients
// log the latter.
func (s *site) logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	fmt.Fprintf(s.cfg.log, "%s %6.1fs  %s\n", now.Format("15:04:05.000"), now.Sub(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// wrong notes what went wrong, besides requests.
func (s *site) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.logf("WRONG: %s", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, text)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// The cast of the original sample.
const (
	service = "api"
	backend = "api_nodes"
)

// stage is the demo while it runs.
type stage struct {
	cfg    config
	lab    *lab.Lab
	screen *screen
	consul *lab.Consul
	lb0    *lab.Balancer

	clients []*lab.Client
	marks   marks
	result  result
}

// marks are the moments that split the figures.
type marks struct {
	load   time.Time // all clients send
	deploy time.Time // the first node of 1.1 starts
	done   time.Time // the last node of 1.0 has gone
	end    time.Time // the clients stop
}

// show runs the whole demo and gives its result once there is one.
func show(ctx context.Context, cfg config, programs lab.Programs) (*result, error) {
	sc := newScreen(os.Stderr)
	l, err := lab.New(lab.Config{Programs: programs, Log: sc})
	if err != nil {
		return nil, err
	}
	s := &stage{cfg: cfg, lab: l, screen: sc}
	defer func() {
		sc.clear()
		if err := l.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
		}
	}()
	if err := s.play(ctx); err != nil {
		if ctx.Err() == nil {
			sc.say("%s", l.Tails(8))
		}
		return nil, err
	}
	s.verdict()
	if !cfg.once {
		sc.say("The lab stays up. Ctrl-C ends it.")
		s.addresses()
		<-ctx.Done()
	}
	return &s.result, nil
}

func (s *stage) play(ctx context.Context) error {
	old, err := s.setUp(ctx)
	if err != nil {
		return err
	}
	if err := s.startClients(); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go s.screen.watch(watching, s.status)
	s.screen.act("Five clients send %d requests a second in all. First, version 1.0 alone, for 10 s.", 5*s.cfg.rate)
	if err := rest(ctx, 10*time.Second); err != nil {
		return err
	}
	if err := s.deploy(ctx, old); err != nil {
		return err
	}
	if err := s.addService(ctx); err != nil {
		return err
	}
	if err := s.untilEnough(ctx); err != nil {
		return err
	}
	stop()
	return s.finish(ctx)
}

// setUp starts Consul, the load balancer and three nodes of 1.0.
func (s *stage) setUp(ctx context.Context) ([]*lab.Node, error) {
	s.screen.act("Starting Consul, HAProxy with its sidecar, and three API nodes of version 1.0.")
	var err error
	if s.consul, err = s.lab.StartConsul(ctx, s.cfg.consulPort); err != nil {
		return nil, err
	}
	s.lb0, err = s.lab.NewBalancer("lb0", s.consul, lab.Service{Name: service, Backend: backend, Port: s.cfg.port})
	if err != nil {
		return nil, err
	}
	if err := s.lb0.SetPorts(s.cfg.statsPort, s.cfg.statusPort); err != nil {
		return nil, err
	}
	if err := s.lb0.Start(ctx); err != nil {
		return nil, err
	}
	nodes, err := s.startNodes(ctx, "1.0", 0, 3)
	if err != nil {
		return nil, err
	}
	if err := s.lb0.Routes(ctx, 20*time.Second, service, lab.NodeIDs(nodes...)...); err != nil {
		return nil, err
	}
	s.addresses()
	return nodes, nil
}

func (s *stage) addresses() {
	s.screen.say("  clients' way in     %s", s.lb0.URL(service))
	s.screen.say("  Consul's UI         %s", s.consul.URL())
	s.screen.say("  HAProxy statistics  %s", s.lb0.StatsURL())
	s.screen.say("  sidecar             %s", s.lb0.StatusURL())
	s.screen.say("  files and logs      %s", s.lab.Dir())
}

func (s *stage) startNodes(ctx context.Context, version string, first, count int) ([]*lab.Node, error) {
	var nodes []*lab.Node
	for i := range count {
		n, err := s.lab.StartNode(ctx, s.consul, service, fmt.Sprintf("api%d", first+i), version)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (s *stage) startClients() error {
	for i := range 5 {
		c, err := s.lab.StartClient(fmt.Sprintf("client%d", i), s.cfg.rate, []string{s.lb0.URL(service)})
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
	}
	s.marks.load = time.Now()
	return nil
}

// deploy starts 1.1, waits until it is live, and stops 1.0 one by one.
func (s *stage) deploy(ctx context.Context, old []*lab.Node) error {
	pid, err := s.lb0.WorkerPID(ctx)
	if err != nil {
		return err
	}
	s.marks.deploy = time.Now()
	s.screen.act("Deploying: three nodes of version 1.1 start.")
	fresh, err := s.startNodes(ctx, "1.1", len(old), 3)
	if err != nil {
		return err
	}
	if err := s.lb0.Routes(ctx, 20*time.Second, service, append(lab.NodeIDs(old...), lab.NodeIDs(fresh...)...)...); err != nil {
		return err
	}
	s.screen.act("Version 1.1 is live. The nodes of 1.0 stop, one by one.")
	for _, n := range old {
		if err := n.Leave(30 * time.Second); err != nil {
			return err
		}
	}
	if err := s.lb0.Routes(ctx, 10*time.Second, service, lab.NodeIDs(fresh...)...); err != nil {
		return err
	}
	s.marks.done = time.Now()
	state, err := s.lb0.State(ctx)
	if err != nil {
		return err
	}
	s.result.ReloadsDeploy = state.Reloads.Succeeded + state.Reloads.Failed
	now, err := s.lb0.WorkerPID(ctx)
	if err != nil {
		return err
	}
	if now != pid && s.result.ReloadsDeploy == 0 {
		return fmt.Errorf("HAProxy's worker changed from pid %d to %d though the sidecar counts no reload", pid, now)
	}
	s.screen.act("Deployed in %.1f s. HAProxy's worker is still pid %d: no reload.", s.marks.done.Sub(s.marks.deploy).Seconds(), now)
	return rest(ctx, 3*time.Second)
}

// addService adds a service by the sidecar's own file: the one thing here that
// needs a reload.
func (s *stage) addService(ctx context.Context) error {
	s.screen.act("Adding a second service, web, to the sidecar's file: a seamless reload, under load.")
	web, err := s.lab.StartNode(ctx, s.consul, "web", "web0", "1.0")
	if err != nil {
		return err
	}
	if err := s.lb0.SetServices(append(s.lb0.Services(), lab.Service{Name: "web"})...); err != nil {
		return err
	}
	if err := s.lb0.Reread(); err != nil {
		return err
	}
	if err := s.lb0.Routes(ctx, 20*time.Second, "web", web.Name); err != nil {
		return err
	}
	s.screen.act("HAProxy serves web at %s.", s.lb0.URL("web"))
	return rest(ctx, 3*time.Second)
}

// untilEnough lets the clients go on until they have sent enough.
func (s *stage) untilEnough(ctx context.Context) error {
	need := time.Duration(s.cfg.requests) * time.Second / time.Duration(5*s.cfg.rate)
	if left := time.Until(s.marks.load.Add(need + time.Second)); left > 0 {
		s.screen.act("Sending on until %d requests are made, for %.0f s more.", s.cfg.requests, left.Seconds())
		return rest(ctx, left)
	}
	return nil
}

// finish stops the clients and adds up what they found.
func (s *stage) finish(ctx context.Context) error {
	s.marks.end = time.Now()
	var reports []lab.Report
	for _, c := range s.clients {
		r, err := c.Finish(15 * time.Second)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	state, err := s.lb0.State(ctx)
	if err != nil {
		return err
	}
	s.result.ReloadsTotal = state.Reloads.Succeeded + state.Reloads.Failed
	s.result.HAProxy = state.HAProxy.Version
	if err := s.result.add(reports, s.marks); err != nil {
		return err
	}
	text, err := s.lb0.Metrics(ctx)
	if err != nil {
		return err
	}
	return s.result.addApplied(text)
}

// rest waits, and fails if the demo is ended meanwhile.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errors.Join(errors.New("ended"), context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

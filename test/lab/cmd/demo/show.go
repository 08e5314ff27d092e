package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// The cast of the original sample.
const (
	service = "api"
	backend = "api_nodes"
)

// What comes later by registering itself, and the host that it claims.
const (
	second     = "shop"
	secondHost = "shop.example.com"
)

// frontend leads what no service claims to the first service.
const frontend = `frontends:
  - name: web
    bind: %q
    default: ` + service + `
    discover:
      tag_prefix: pointsman-route=
      allow:
        - {host: "*.example.com", services: "*"}
profiles:
  - name: default
    check: {path: /healthz}
`

// stage is the demo while it runs.
type stage struct {
	cfg    config
	lab    *lab.Lab
	screen *screen

	programs lab.Programs

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
}

// show runs the whole demo and gives its result once there is one.
func show(ctx context.Context, cfg config, programs lab.Programs) (*result, error) {
	sc := newScreen(os.Stderr)
	l, err := lab.New(lab.Config{Programs: programs, Log: sc})
	if err != nil {
		return nil, err
	}
	s := &stage{cfg: cfg, lab: l, screen: sc, programs: programs}
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
	if err := lab.Pause(ctx, 10*time.Second); err != nil {
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
	port := s.cfg.port
	if port == 0 {
		if port, err = s.lab.Port(); err != nil {
			return nil, err
		}
	}
	s.lb0, err = s.lab.NewBalancer("lb0", s.consul, lab.Service{Name: service, Backend: backend, Port: port, BackendOnly: true})
	if err != nil {
		return nil, err
	}
	if err := s.lb0.SetExtra(fmt.Sprintf(frontend, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))); err != nil {
		return nil, err
	}
	if err := s.lb0.SetPorts(s.cfg.statsPort, s.cfg.statusPort); err != nil {
		return nil, err
	}
	if err := s.lb0.Start(ctx); err != nil {
		return nil, err
	}
	nodes, err := s.lab.StartNodes(ctx, s.consul, service, "1.0", lab.Numbered("api", 0, 3)...)
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
	fresh, err := s.lab.StartNodes(ctx, s.consul, service, "1.1", lab.Numbered("api", len(old), 3)...)
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
	worker := fmt.Sprintf("is still pid %d: no reload.", now)
	if s.result.ReloadsDeploy > 0 {
		worker = fmt.Sprintf("was pid %d and is now pid %d, after %d reloads.", pid, now, s.result.ReloadsDeploy)
	}
	s.screen.act("Deployed in %.1f s. HAProxy's worker %s", s.marks.done.Sub(s.marks.deploy).Seconds(), worker)
	return lab.Pause(ctx, 3*time.Second)
}

// addService has a second service register itself. No setting changes: its tag claims a
// host on the same port. Its backend is the one thing here that needs a reload, before
// HAProxy 3.4.
func (s *stage) addService(ctx context.Context) error {
	s.screen.act("A second service, %s, registers itself with the tag pointsman-route=%s.", second, secondHost)
	if status, _, err := s.ask(ctx, secondHost); err != nil || status != http.StatusOK {
		return errors.Join(fmt.Errorf("%s, which no service claims yet: status %d", secondHost, status), err)
	}
	began := time.Now()
	node, err := s.lab.StartWrapped(s.consul, second, second+"0", []string{"--tag", "pointsman-route=" + secondHost}, func(port int) []string {
		return []string{s.programs.API, "--listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "--instance", second + "0", "--version-name", "1.0", "--no-register"}
	})
	if err != nil {
		return err
	}
	if err := lab.Until(ctx, 20*time.Second, secondHost+" is served by "+node.Name, func() error {
		status, instance, err := s.ask(ctx, secondHost)
		if err == nil && instance != node.Name {
			err = fmt.Errorf("status %d of %q", status, instance)
		}
		return err
	}); err != nil {
		return err
	}
	s.result.Routed = time.Since(began).Seconds()
	_, other, err := s.ask(ctx, "api.example.com")
	if err != nil || other == node.Name {
		return errors.Join(fmt.Errorf("a host that no service claims is served by %q", other), err)
	}
	s.screen.act("HAProxy serves %s by its host, on the same port, after %.1f s: curl -H 'Host: %s' %s", second, s.result.Routed, secondHost, s.lb0.URL(service))
	return lab.Pause(ctx, 3*time.Second)
}

// ask sends one request for a host, and gives the instance that answers.
func (s *stage) ask(ctx context.Context, host string) (status int, instance string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.lb0.URL(service), http.NoBody)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }() // read, or of no use
	var body struct {
		Instance string `json:"instance"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body)
	return resp.StatusCode, body.Instance, err
}

// untilEnough lets the clients go on until they have sent enough.
func (s *stage) untilEnough(ctx context.Context) error {
	need := time.Duration(s.cfg.requests) * time.Second / time.Duration(5*s.cfg.rate)
	if left := time.Until(s.marks.load.Add(need + time.Second)); left > 0 {
		s.screen.act("Sending on until %d requests are made, for %.0f s more.", s.cfg.requests, left.Seconds())
		return lab.Pause(ctx, left)
	}
	return nil
}

// finish stops the clients and adds up what they found.
func (s *stage) finish(ctx context.Context) error {
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

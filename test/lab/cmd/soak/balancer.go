package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// balancers is how many there are.
const balancers = 2

// balancer is a load balancer, and what the soak does with it.
type balancer struct {
	*lab.Balancer
	lab      *lab.Lab
	template string // its own copy
	extra    bool   // whether it routes the service that comes and goes

	reloads atomic.Int64
	first   figures // of the sidecar, before the faults
}

// What may be sent again goes elsewhere when a node has not answered within
// serverTimeout. Three of these must fit into the time that a client waits.
const serverTimeout, clientTimeout = 2 * time.Second, 10 * time.Second

const haproxySettings = `  template: %s
  defaults: {timeouts: {server: %s}}
`

func (lb *balancer) setServices() error {
	const common = `    retry_on: [conn-failure, empty-response, response-timeout]
    damping: {min: 2s, max: 5s, forget: 30s}
`
	// Both services share a port, the one that clients find in Consul.
	services := []lab.Service{
		{Name: "api", Port: lb.port(), Extra: common + "    frontend_extra: use_backend web if { path_beg /web }\n"},
		{Name: "web", BackendOnly: true, Extra: common + "    backend_extra: http-request set-path /\n"},
	}
	if lb.extra {
		services = append(services, lab.Service{Name: extra, Extra: common})
	}
	return lb.SetServices(services...)
}

// port is the port that was taken before, or 0.
func (lb *balancer) port() int {
	if all := lb.Services(); len(all) > 0 {
		return all[0].Port
	}
	return 0
}

// newBalancer prepares one: its file is on a disk of its own, its template is a
// copy of the built-in one.
func newBalancer(ctx context.Context, s *site, name string) (*balancer, error) {
	root, err := lab.Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "templates", "haproxy.cfg.tmpl"))
	if err != nil {
		return nil, err
	}
	b, err := s.lab.NewBalancer(name, s.consul)
	if err != nil {
		return nil, err
	}
	lb := &balancer{Balancer: b, lab: s.lab, template: b.Path("haproxy.cfg.tmpl")}
	for _, step := range []func() error{
		func() error { return os.WriteFile(lb.template, text, 0o644) },
		func() error { return lb.makeDisk(s.disk) },
		lb.setServices,
		func() error { return lb.SetConfig(fileDir + "/haproxy.cfg") },
		func() error { return lb.SetHAProxy(fmt.Sprintf(haproxySettings, lb.template, serverTimeout)) },
		func() error { return lb.Join("lb") },
		func() error { return lb.startSidecar(ctx) },
		func() error { return lb.StartHAProxy(ctx) },
		func() error { return lb.Ready(ctx, 30*time.Second) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return lb, nil
}

// startSidecar starts it and waits until it can be spoken to: a signal before
// would end it.
func (lb *balancer) startSidecar(ctx context.Context) error {
	if err := lb.StartSidecar(); err != nil {
		return err
	}
	return lab.Until(ctx, 30*time.Second, lb.Name+"'s sidecar lives", func() error {
		if !lb.Sidecar.Running() {
			return fmt.Errorf("it has ended:\n%s", lb.Sidecar.Tail(10))
		}
		return lb.lab.Get(ctx, lb.StatusURL()+"/healthz", time.Second)
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// site is the processes of one row: Consul, the sidecar with its HAProxy, and
// a bare HAProxy on which the floor is measured.
type site struct {
	consul *lab.Consul
	lb     *lab.Balancer
	bare   *lab.Balancer

	dnsPort int // of Consul's DNS

	services [][]instance // that the sidecar follows
	floor    []instance   // as large a service, that only the floor follows
}

// consulFlags let one machine hold as many queries as a row needs, where Consul
// takes 200 connections from one address by default, and put all instances into
// an answer of its DNS, where it gives three.
var consulFlags = []string{"-hcl=limits { http_max_conns_per_client = 10000 }", "-hcl=dns_config { udp_answer_limit = 100 }"}

// perService turns off what is not measured: HAProxy's own checks, because
// nothing listens at the addresses, and what holds back an instance that flaps
// or a service that loses many.
const perService = `    check: {enabled: false}
    damping: {flaps: 0}
    min_servers: 0
    guard: {max_loss_ratio: 1}
`

// otherMachines lets instances at loopback addresses stand for other machines.
const otherMachines = "addresses: {allow: [127.0.0.0/8]}\n"

// haproxySettings let what looks at HAProxy keep its connection while others
// are measured.
const haproxySettings = "  global: {user: \"\", group: \"\", chroot: \"\", stats_socket_group: \"\", extra: [stats timeout 1h]}\n"

const floorService = "floor"

// startSite is newSite, with the sidecar started.
func (b *bench) startSite(ctx context.Context, f fleet, further ...lab.Service) (*site, error) {
	s, err := b.newSite(ctx, f, further...)
	if err == nil {
		err = s.startSidecar(ctx, b)
	}
	return s, err
}

// newSite starts Consul with the fleet in it, and the bare HAProxy. The sidecar,
// which follows the further services too, is not started yet.
func (b *bench) newSite(ctx context.Context, f fleet, further ...lab.Service) (*site, error) {
	s, err := b.newConsul(ctx)
	if err != nil {
		return nil, err
	}
	b.step("registering %d instances", (f.services+1)*f.instances)
	s.floor = f.service(floorService, f.services)
	services := further
	for i := range f.services {
		name := fmt.Sprintf("svc%d", i)
		s.services = append(s.services, f.service(name, i))
		services = append(services, lab.Service{Name: name, BackendOnly: true, Extra: perService})
	}
	if err := registerAll(ctx, s.consul.Client, append(s.services, s.floor)); err != nil {
		return nil, err
	}
	if s.lb, err = b.lab.NewBalancer("lb", s.consul, services...); err != nil {
		return nil, err
	}
	if err := errors.Join(s.lb.SetHAProxy(haproxySettings), s.lb.SetExtra(otherMachines)); err != nil {
		return nil, err
	}
	s.lb.SetEnviron(profileVariable + "=" + b.profileFile())
	return s, s.startBare(ctx, b.lab)
}

// newConsul starts Consul alone, perhaps with further flags.
func (b *bench) newConsul(ctx context.Context, flags ...string) (*site, error) {
	s := &site{}
	var err error
	if s.consul, err = b.lab.NewConsul(0); err != nil {
		return nil, err
	}
	if s.dnsPort, err = b.lab.Port(); err != nil {
		return nil, err
	}
	s.consul.Flags = slices.Concat(consulFlags, []string{fmt.Sprintf("-dns-port=%d", s.dnsPort)}, flags)
	if err := s.consul.Restart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// startBare starts an HAProxy with the floor's service in its file, and no
// sidecar.
func (s *site) startBare(ctx context.Context, l *lab.Lab) (err error) {
	if s.bare, err = l.NewBalancer("bare", s.consul); err != nil {
		return err
	}
	var servers strings.Builder
	for i := range s.floor {
		inst := &s.floor[i]
		inst.server = floorService + "/" + inst.id
		fmt.Fprintf(&servers, "    server %s %s weight 1\n", inst.id, inst.address())
	}
	return startWithout(ctx, s.bare, floorService, servers.String())
}

// bareFile is haproxy.cfg of an HAProxy without a sidecar: its socket, the name
// of the backend, and the backend's lines.
const bareFile = `global
    stats socket %s mode 600 level admin
    stats timeout 1h
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
backend %s
    balance roundrobin
%s`

// startWithout starts an HAProxy that no sidecar changes.
func startWithout(ctx context.Context, lb *lab.Balancer, backend, lines string) error {
	file := fmt.Sprintf(bareFile, lb.Socket(), backend, lines)
	if err := os.WriteFile(lb.Config(), []byte(file), 0o600); err != nil {
		return err
	}
	return lb.StartHAProxy(ctx)
}

func (i instance) address() string { return net.JoinHostPort(i.addr, strconv.Itoa(i.port)) }

// startSidecar starts the sidecar and its HAProxy, and waits until HAProxy has
// all instances.
func (s *site) startSidecar(ctx context.Context, b *bench) error {
	b.step("starting the sidecar")
	const limit = 2 * time.Minute
	if err := errors.Join(s.lb.StartSidecar(), s.lb.StartHAProxy(ctx), s.lb.Ready(ctx, limit)); err != nil {
		return err
	}
	return lab.Until(ctx, limit, "HAProxy has every instance", func() error { return s.findServers(ctx) })
}

// findServers fills in the servers' names: an instance's on 3.0 and newer, a
// slot's before.
func (s *site) findServers(ctx context.Context) error {
	out, err := s.lb.Runtime(ctx, "show servers state")
	if err != nil {
		return err
	}
	// Every backend's rows have its name in the second column.
	names := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 18 && f[0] != "#" {
			names[f[1]+" "+net.JoinHostPort(f[4], f[18])] = f[1] + "/" + f[3]
		}
	}
	for _, service := range s.services {
		for i := range service {
			inst := &service[i]
			if inst.server = names[inst.service+" "+inst.address()]; inst.server == "" {
				return fmt.Errorf("%s is not in HAProxy", inst.id)
			}
		}
	}
	return nil
}

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
	"slices"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// The peers. Each follows a service of its own, on the same Consul.
const (
	consulTemplate = "consul-template" // with a reload over the master socket
	dns            = "HAProxy's DNS"   // HAProxy asks Consul's DNS itself
	fabio          = "fabio"           // a proxy of its own
)

// startPeer registers a service for a peer and starts the peer. It returns nil
// if its program is not there.
func (l latency) startPeer(ctx context.Context, b *bench, s *site, name string, number int) (*subject, error) {
	start := map[string]func(context.Context, *bench, *site, []instance) (func([]string) ([]int, error), error){
		consulTemplate: startConsulTemplate, dns: startDNS, fabio: startFabio,
	}[name]
	if program := map[string]string{consulTemplate: b.cfg.consulTemplate, dns: "-", fabio: b.cfg.fabio}[name]; program == "" {
		b.step("%s is not there, and not measured", name)
		return nil, nil
	}
	service := l.fleet.service(fmt.Sprintf("peer%d", number), number)
	for i := range service {
		service[i].server = service[i].service + "/" + service[i].id
		service[i].tag = "urlprefix-/" + service[i].service
	}
	if err := register(ctx, s.consul.Client, service); err != nil {
		return nil, err
	}
	look, err := start(ctx, b, s, service)
	if err != nil {
		return nil, err
	}
	peer := l.watched(s, name, l.targets([][]instance{service}), look)
	// It has taken in the whole state before the first measurement.
	return peer, lab.Until(ctx, time.Minute, name+" routes to the service", func() error {
		values, err := look([]string{peer.targets[0].server})
		if err == nil && values[0] != 1 {
			err = errors.New("not yet")
		}
		return err
	})
}

// startConsulTemplate starts an HAProxy whose file consul-template writes, with
// the instances that pass, and reloads.
func startConsulTemplate(ctx context.Context, b *bench, s *site, service []instance) (func([]string) ([]int, error), error) {
	lb, err := b.lab.NewBalancer(consulTemplate, s.consul)
	if err != nil {
		return nil, err
	}
	name := service[0].service
	if err := startWithout(ctx, lb, name, ""); err != nil {
		return nil, err
	}
	template := lb.Path("haproxy.ctmpl")
	lines := fmt.Sprintf("{{range service %q}}    server {{.ID}} {{.Address}}:{{.Port}} weight 1\n{{end}}", name)
	self, errSelf := os.Executable()
	errWrite := os.WriteFile(template, fmt.Appendf(nil, bareFile, lb.Socket(), name, lines), 0o600)
	if err := errors.Join(errSelf, errWrite); err != nil {
		return nil, err
	}
	_, err = b.lab.Start("consul-template-run", b.cfg.consulTemplate, "-consul-addr="+s.consul.Address(),
		fmt.Sprintf("-template=%s:%s:%s %s %s", template, lb.Config(), self, reloadCommand, lb.Master()))
	return serversOf(ctx, lb, name), err
}

// serversOf looks at a backend by a connection of its own each time, so that
// the newest worker answers. While it is reloaded, nothing shows.
func serversOf(ctx context.Context, lb *lab.Balancer, backend string) func([]string) ([]int, error) {
	return func(servers []string) ([]int, error) {
		values := make([]int, len(servers))
		for i := range values {
			values[i] = -1
		}
		state, err := lb.Servers(ctx, backend)
		if err != nil {
			return values, nil //nolint:nilerr // the worker has just ended
		}
		for i, server := range servers {
			values[i] = 0
			for _, is := range state {
				if backend+"/"+is.Name == server && is.Up {
					values[i] = 1
				}
			}
		}
		return values, nil
	}
}

const reloadCommand = "reload"

// reload is what consul-template runs: a reload over HAProxy's master socket.
func reload(ctx context.Context, master string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", master)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the answer was read
	_, errWrite := io.WriteString(conn, reloadCommand+"\n")
	errClose := conn.(*net.UnixConn).CloseWrite()
	_, errRead := io.ReadAll(conn)
	return errors.Join(errWrite, errClose, errRead)
}

// startDNS starts an HAProxy that asks Consul's DNS for the service's SRV
// records as often as it can.

func startDNS(ctx context.Context, b *bench, s *site, service []instance) (func([]string) ([]int, error), error) {
	lb, err := b.lab.NewBalancer("dns", s.consul)
	if err != nil {
		return nil, err
	}
	name := service[0].service
	// The fastest settings that HAProxy takes seriously: what it asks for is
	// asked for again every 10 ms, and an answer counts at once.
	lines := fmt.Sprintf(`    server-template s %d _%s._tcp.service.consul resolvers consul resolve-prefer ipv4 init-addr none
resolvers consul
    nameserver dns 127.0.0.1:%d
    accepted_payload_size 8192
    timeout resolve 10ms
    timeout retry 100ms
    hold valid 10ms
    hold obsolete 0s
`, len(service), name, s.dnsPort)
	if err := startWithout(ctx, lb, name, lines); err != nil {
		return nil, err
	}
	target := service[0].address()
	return func([]string) ([]int, error) {
		state, err := lb.Servers(ctx, name)
		value := 0
		if slices.ContainsFunc(state, func(is lab.Server) bool { return is.Addr == target && is.Up }) {
			value = 1
		}
		return []int{value}, err
	}, nil
}

// startFabio starts fabio. Its table of routes shows what it sends requests to.
func startFabio(ctx context.Context, b *bench, s *site, service []instance) (func([]string) ([]int, error), error) {
	proxyPort, err := b.lab.Port()
	uiPort, errUI := b.lab.Port()
	if err := errors.Join(err, errUI); err != nil {
		return nil, err
	}
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	_, err = b.lab.Start(fabio, b.cfg.fabio, "-registry.consul.addr", s.consul.Address(), "-registry.consul.register.enabled=false",
		"-proxy.addr", at(proxyPort), "-ui.addr", at(uiPort), "-insecure")
	client := &http.Client{Timeout: socketLimit}
	target := "http://" + service[0].address() + "/"
	return func([]string) ([]int, error) {
		destinations, err := fabioRoutes(ctx, client, "http://"+at(uiPort)+"/api/routes")
		value := 0
		if slices.Contains(destinations, target) {
			value = 1
		}
		return []int{value}, err
	}, err
}

func fabioRoutes(ctx context.Context, client *http.Client, url string) (destinations []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	var routes []struct{ Dst string }
	if err := json.NewDecoder(resp.Body).Decode(&routes); err != nil {
		return nil, err
	}
	for _, r := range routes {
		destinations = append(destinations, r.Dst)
	}
	return destinations, nil
}

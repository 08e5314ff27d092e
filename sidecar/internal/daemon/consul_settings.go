package daemon

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

func newSource(cfg config.Config, own []consul.Listener, log hclog.Logger) (*consul.Source, error) {
	return consul.New(ConsulOptions(cfg, log), watched(cfg, own))
}

// ConsulOptions is the way to Consul.
func ConsulOptions(cfg config.Config, log hclog.Logger) consul.Options {
	c := cfg.Consul
	scheme := ""
	if c.SSL {
		scheme = "https"
	}
	return consul.Options{
		Address: c.Address, Scheme: scheme, Token: string(c.Token), TokenFile: c.TokenFile, HTTPAuth: string(c.HTTPAuth),
		CAFile: c.CAFile, CAPath: c.CAPath, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify,
		Datacenter:         c.Datacenter, Namespace: c.Namespace, Partition: c.Partition,
		WaitTime: c.Wait, MaxStale: c.MaxStale, Logger: log,
	}
}

// watched is the services as the catalog source wants them.
func watched(cfg config.Config, own []consul.Listener) []consul.Service {
	services := make([]consul.Service, 0, len(cfg.Services))
	var claims consul.Claims
	claims.Tags, claims.Meta = cfg.Rules().Prefixes()
	for _, s := range cfg.Services {
		if s.Preview.Of != "" {
			continue // it is made of the answer about its service
		}
		allow, deny := s.Addresses.Allow, slices.Concat(cfg.Addresses.Deny, s.Addresses.Deny)
		if len(allow) == 0 {
			allow = cfg.Addresses.Allow
		}
		services = append(services, consul.Service{Name: s.Name, Backend: s.Backend, Tags: s.Tags, Filter: s.Filter, Resolve: s.Resolve, MaxInstances: s.MaxInstances, Datacenters: cfg.WatchedDatacenters(s), PreferZone: s.PreferZone, Claims: claims, Addresses: consul.Addresses{
			Allow: config.Prefixes(allow), Deny: config.Prefixes(deny), Own: own,
		}})
	}
	return services
}

// ownListeners is where this load balancer and this sidecar listen. bound is
// what the sidecar's server has bound, or nil before.
func ownListeners(cfg config.Config, r *render.Renderer, bound net.Addr) (own []consul.Listener) {
	add := func(what, at string) {
		host, _, _ := net.SplitHostPort(at)
		port := uint16(portOf(at))
		if port == 0 {
			return // a path, or nothing
		}
		addr, err := netip.ParseAddr(host)
		if err != nil {
			addr = netip.IPv4Unspecified() // any of this machine's
		}
		own = append(own, consul.Listener{Addr: addr, First: port, Last: port, What: what})
	}
	add("api.address", cfg.API.Address)
	if bound != nil {
		add("api.address", bound.String())
	}
	if host := hostOf(cfg.API.Advertise); net.ParseIP(host) != nil {
		at := cfg.API.Advertise
		if portOf(at) == 0 {
			at = net.JoinHostPort(host, strconv.Itoa(portOf(cfg.API.Address)))
		}
		add("api.advertise", at)
	}
	add("haproxy.peers.address", cfg.HAProxy.Peers.Address)
	add("haproxy.socket", bindAddress(cfg.HAProxy.Socket))
	add("haproxy.master_socket", bindAddress(cfg.HAProxy.MasterSocket))
	listeners := r.Listeners()
	if base := cfg.HAProxy.BaseConfig; base != "" {
		content, _ := render.ReadRegular(base) // one that cannot be read is HAProxy's error
		listeners = append(slices.Clone(listeners), render.ListenersOf(content)...)
	}
	for _, l := range listeners {
		if !l.Addr.IsValid() {
			l.Addr = netip.IPv4Unspecified()
		}
		own = append(own, consul.Listener{Addr: l.Addr, First: l.First, Last: l.Last, What: l.Where + " of haproxy.cfg"})
	}
	return own
}

package daemon

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/internal/reach"
	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// self is the sidecar as a service in Consul, for leaving nodes and deployments
// to find. When the sidecar stops, a record of it stays: its HAProxy keeps running,
// and nodes that leave meanwhile give that HAProxy their leave_wait.
//
// bound gives the address that the status server listens on, or nil before it
// does.
func self(bound func() net.Addr) registrable {
	return registrable{
		setting: "api.advertise",
		wanted:  func(cfg config.Config) bool { return cfg.API.Service != "" && bound() != nil },
		at:      selfHost,
		entry: func(cfg config.Config, address string) entry {
			return selfEntry(cfg, address, bound())
		},
		leaves: true,
		record: func(cfg config.Config, e entry) entry { return stoppedEntry(cfg, e, time.Now(), recordFor) },
	}
}

// selfHost is where others reach the sidecar, or "" where that has to be found
// out.
func selfHost(cfg config.Config) string {
	host := hostOf(cmp.Or(cfg.API.Advertise, cfg.API.Address))
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		return ""
	}
	return host
}

// hostOf is an address without its port, if it has one.
func hostOf(at string) string {
	if host, _, err := net.SplitHostPort(at); err == nil {
		return host
	}
	return at
}

// isCutOff reports whether the sidecar registers where no other host, nor Consul
// for its check, can reach it.
func isCutOff(cfg config.Config) bool {
	if cfg.API.Service == "" {
		return false
	}
	host := selfHost(cfg)
	addr, err := netip.ParseAddr(host)
	_, local := reach.Consul(cfg.Consul.Address)
	return !local && (host == "localhost" || err == nil && addr.IsLoopback())
}

// recordFor is how long Consul knows a sidecar that has gone, in order or not,
// if its HAProxy answers: an upgrade takes less. Where HAProxy has gone as well,
// the record of an orderly stop ends with its health check.
const recordFor = 10 * time.Minute

// stoppedEntry is what stays registered of a sidecar that has stopped. Its
// checks are HAProxy's own answer, and one that is not answered after the time.
func stoppedEntry(cfg config.Config, e entry, since time.Time, lasts time.Duration) entry {
	meta := maps.Clone(e.Meta)
	maps.Copy(meta, contract.Sidecar{Balancer: cfg.Name, Stopped: since}.Format())
	e.Meta = meta
	e.Checks = []registrator.Check{{Name: "stopped", TTL: lasts}}
	haproxy := registrator.Check{Name: "haproxy", Interval: selfCheck, Timeout: selfCheck}
	// HAProxy may be in another container than the sidecar.
	address := cmp.Or(cfg.Registration.Address, e.Address)
	if cfg.Registration.Check.URL != "" || config.BindAddrPort(cfg.HAProxy.Health.Bind).IsValid() {
		haproxy.HTTP = checkURL(cfg.Registration, cfg.HAProxy.Health, address)
	} else {
		haproxy.TCP = listens(cfg, cmp.Or(address, "127.0.0.1"))
	}
	if haproxy.HTTP != "" || haproxy.TCP != "" {
		e.Checks = append(e.Checks, haproxy)
	}
	return e
}

// listens is an address at which HAProxy listens for clients, or "".
func listens(cfg config.Config, host string) string {
	var all []netip.AddrPort
	for _, bind := range cfg.Binds() {
		all = append(all, config.BindAddrPort(bind))
	}
	// Without a bind in the settings, clients come by the operator's own file or by
	// what the template says.
	for _, file := range []string{cfg.HAProxy.BaseConfig, cfg.HAProxy.Config} {
		content, _ := os.ReadFile(file) // one that cannot be read is HAProxy's error
		for _, l := range render.ListenersOf(content) {
			all = append(all, netip.AddrPortFrom(l.Addr, l.First))
		}
	}
	for _, at := range all {
		switch {
		case !at.IsValid():
		case at.Addr().IsUnspecified():
			return net.JoinHostPort(host, strconv.Itoa(int(at.Port())))
		default:
			return at.String()
		}
	}
	return ""
}

// selfCheck is how often Consul asks whether the sidecar answers.
const selfCheck = time.Second

func selfEntry(cfg config.Config, address string, bound net.Addr) entry {
	port := portOf(bound.String())
	scheme, host := "http", address
	if cfg.API.TLS.CertFile != "" {
		scheme = "https"
	}
	if host == "" {
		host = "127.0.0.1" // Consul's agent is on this machine
	}
	registered := port
	if p := portOf(cfg.API.Advertise); p != 0 {
		registered = p
	}
	says := contract.Sidecar{Balancer: cfg.Name, HTTPS: scheme == "https"}
	if at := cfg.HAProxy.Peers.Address; at != "" {
		says.Peer, _ = netip.ParseAddrPort(at) // Load has passed it
	}
	for _, s := range cfg.Services {
		if s.Preview.Of != "" {
			continue
		}
		says.Services = append(says.Services, s.Name)
		for _, datacenter := range cfg.WatchedDatacenters(s) {
			says.Services = append(says.Services, contract.ServiceIn(s.Name, datacenter))
		}
	}
	return entry{
		Service: cfg.API.Service, ID: "pointsman-sidecar-" + cfg.Name, Address: address, Port: registered,
		Meta: says.Format(),
		Checks: []registrator.Check{{
			Name: "sidecar", HTTP: scheme + "://" + net.JoinHostPort(host, strconv.Itoa(registered)) + "/healthz",
			Interval: selfCheck, Timeout: selfCheck, DeregisterCriticalAfter: recordFor,
			// It tells that something answers there. Who that is, those who ask
			// find out by the certificate.
			TLSSkipVerify: scheme == "https",
		}},
	}
}

// portOf reads the port of host:port, or gives 0.
func portOf(at string) int {
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

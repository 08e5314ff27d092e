package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/sidecar/internal/statefile"
	"github.com/pointsman/pointsman/templates"
)

// Policy is the services as plan wants them, with what their haproxy.cfg has of
// the operator's own.
func Policy(cfg config.Config, r *render.Renderer) []plan.Service {
	services := make([]plan.Service, 0, len(cfg.Services)+len(cfg.Gone))
	for _, s := range cfg.Services {
		services = append(services, policyOf(cfg, s, r))
	}
	for _, s := range cfg.Gone {
		p := policyOf(cfg, s, r)
		p.Gone = true
		services = append(services, p)
	}
	return services
}

// policyOf is the policy of one service.
func policyOf(cfg config.Config, s config.Service, r *render.Renderer) plan.Service {
	own := renderService(cfg, s)
	defaults, byReload := r.Defaults(own.Defaults)
	return plan.Service{
		Name: s.Name, Backend: s.Backend, Defaults: defaults, Mode: string(s.Mode), ByReload: cmp.Or(byReload, s.ByReload),
		Checked: s.Check.Enabled, Path: s.Check.Path, Options: own.Options(),
		MaxConn: s.Options().MaxConn, AgentFromMeta: s.Policy.AgentCheck.FromMeta, Static: s.Static(), Operator: r.Operator(s.Backend),
		Warning:    s.WarningTakesTraffic,
		ForceSlots: s.InFile(), Slots: s.Slots.Min, Spare: s.Slots.Spare,
		DrainTimeout: s.DrainTimeout, SessionKillAfter: s.SessionKillAfter, SessionKillSpread: s.SessionKillSpread, MoveSticky: s.DrainSticky == config.StickyMove, CloseRole: s.CloseOnRoleChange, ReplacementTimeout: s.ReplacementTimeout,
		MinServers: s.MinServers, MaxLossRatio: s.Guard.MaxLossRatio, Window: s.Guard.Window, Hold: s.Guard.Hold, HoldDeregistered: s.Guard.HoldDeregistered,
	}
}

// damping is how the services' instances are damped.
func damping(cfg config.Config) map[string]reconcile.Damping {
	out := make(map[string]reconcile.Damping, len(cfg.Services))
	for _, s := range cfg.Services {
		out[s.Backend] = reconcile.Damping{Flaps: s.Damping.Flaps, Min: s.Damping.Min, Max: s.Damping.Max, Forget: s.Damping.Forget}
	}
	return out
}

// InRotation reports whether HAProxy's file has the backend that maintenance is
// about.
func InRotation(cfg config.Config) bool { return cfg.HAProxy.Health.Bind != "" }

// renderSettings is the settings as a template sees them.
func renderSettings(cfg config.Config) render.Settings {
	h, t := cfg.HAProxy, cfg.HAProxy.Defaults.Timeouts
	s := render.Settings{
		Base: h.BaseConfig,
		Log:  h.Log, RuntimeSocket: bindAddress(h.Socket), SocketMode: h.Global.StatsSocketMode, SocketGroup: h.Global.StatsSocketGroup,
		User: h.Global.User, Group: h.Global.Group, Chroot: h.Global.Chroot,
		MaxConn: h.Global.MaxConn, Threads: h.Global.Threads,
		HardStopAfter: h.Global.HardStopAfter, MaxReloads: h.Global.MaxReloads, GlobalExtra: h.Global.Extra,
		DefaultsExtra: h.Defaults.Extra,
		StatsBind:     h.Stats.Bind, StatsURI: h.Stats.URI,
		ExporterBind: h.Exporter.Bind, ExporterURI: h.Exporter.URI,
		HealthBind: h.Health.Bind, HealthURI: h.Health.URI,
		Sections: h.Sections,
		Owner:    plan.Owner{Name: cfg.Name, Host: Host(), File: ownFile(cfg)},
	}
	for _, timeout := range []render.Timeout{
		{Name: "connect", Value: t.Connect},
		{Name: "client", Value: t.Client},
		{Name: "server", Value: t.Server},
		{Name: "queue", Value: t.Queue},
		{Name: "http-request", Value: t.HTTPRequest},
		{Name: "http-keep-alive", Value: t.HTTPKeepAlive},
		{Name: "tunnel", Value: t.Tunnel},
	} {
		if timeout.Value > 0 {
			s.Timeouts = append(s.Timeouts, timeout)
		}
	}
	for _, svc := range cfg.Services {
		s.Services = append(s.Services, renderService(cfg, svc))
	}
	s.Profiles = renderProfiles(cfg)
	s.Pauses.Backends = pausable(cfg)
	if len(cfg.Frontends) > 0 {
		s.MapPath = mapPath(h.Config)
	}
	s.Found = cfg.Found
	for _, f := range cfg.Frontends {
		s.Frontends = append(s.Frontends, render.Frontend{
			Previews: previews(cfg, f),
			Name:     f.Name, Bind: f.Bind, Mode: string(f.Mode), LoadBalancer: cfg.Name,
			RedirectHTTPS: f.RedirectHTTPS, ALPN: f.ALPN, HSTS: f.HSTS, Forwarded: string(f.Forwarded), LogFormat: f.LogFormat,
			Extra: f.Extra, Default: f.Default, Routes: f.Compiled(),
		})
	}
	return s
}

// previews is the rules by which requests of a frontend go to previews. They are there
// for all services that may have a route: routes change at runtime, and these do not.
func previews(cfg config.Config, f config.Frontend) (out []render.Preview) {
	for _, s := range cfg.Services {
		if c := s.PreviewConditions(); len(c) > 0 && f.Mode == config.HTTP {
			out = append(out, render.Preview{Backend: s.Backend, Conditions: c})
		}
	}
	return out
}

// mapPath is what the paths of the map files begin with. HAProxy may have another
// working directory.
func mapPath(config string) string {
	if path, err := filepath.Abs(config); err == nil {
		return path
	}
	return config
}

// renderProfiles is the profiles of discovered services from which backends are made.
func renderProfiles(cfg config.Config) (out []render.Service) {
	if len(cfg.Rules().Frontends) == 0 {
		return nil
	}
	for _, p := range cfg.Profiles {
		if p.IsShared() {
			p.Service.Profile = p.Name
			out = append(out, renderService(cfg, p.Service))
		}
	}
	return out
}

// backendName is the name of the backend of a service that a profile is of: there is one
// line for all of them (docs/haproxy-facts.md, fact 41).
const backendName = "%[be_name]"

func renderService(cfg config.Config, s config.Service) render.Service {
	out := renderOwn(s)
	out.BackendExtra = append(out.BackendExtra, s.PauseLines(pauseFile(cfg))...)
	if s.Profile != "" {
		out.Defaults, out.Check.Host = "pointsman.profile."+s.Profile, cmp.Or(s.Check.Host, backendName)
	}
	return out
}

func renderOwn(s config.Service) render.Service {
	return render.Service{
		Name:    s.Name,
		Backend: s.Backend, Bind: s.Bind, Mode: string(s.Mode), Balance: s.Balance, RetryOn: s.RetryOn,
		Check: render.Check{
			Enabled: s.Check.Enabled, Path: s.Check.Path, Host: s.Check.Host,
			Inter: s.Check.Inter, FastInter: s.Check.FastInter, DownInter: s.Check.DownInter,
			Timeout: s.Check.Timeout, Rise: s.Check.Rise, Fall: s.Check.Fall,
		},
		ServerOptions: s.Options().String(), ServerFiles: s.Options().Files, InFile: s.InFile(),
		FrontendExtra: s.FrontendExtra, Preview: s.PreviewConditions(), BackendExtra: slices.Concat(s.PolicyLines(), s.BackendExtra), Beside: s.PolicySections(),
	}
}

// bindAddress is the runtime socket as a bind line has it: a path or a TCP
// address, without the prefixes that clients may give.
func bindAddress(socket string) string {
	for _, prefix := range []string{"unix@", "unix:", "tcp@"} {
		socket = strings.TrimPrefix(socket, prefix)
	}
	return socket
}

// NewRenderer is the one of a command: it reads the operator's template, if there is one,
// and writes nothing. The peers are those of the file, so that all commands make the same
// of it.
func NewRenderer(cfg config.Config) (*render.Renderer, error) {
	return makeRenderer(cfg, savedPeers(cfg), false)
}

// newRendererWith is the one of what writes haproxy.cfg. The copies of certificates have
// to be there.
func newRendererWith(cfg config.Config, peers []render.Peer) (*render.Renderer, error) {
	return makeRenderer(cfg, peers, true)
}

func makeRenderer(cfg config.Config, peers []render.Peer, withCopies bool) (*render.Renderer, error) {
	name, text := "built-in haproxy.cfg.tmpl", templates.HAProxy
	if path := cfg.HAProxy.Template; path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("haproxy.template: %w", err)
		}
		name, text = path, string(content)
	}
	s := renderSettings(cfg)
	s.Peers = peersOf(cfg, peers)
	if err := withCertificates(cfg, &s, withCopies); err != nil {
		return nil, err
	}
	r, err := render.New(name, text, s)
	if err != nil || len(s.Pauses.Backends) == 0 {
		return r, err
	}
	return r.WithPauses(savedPauses(cfg)), nil
}

// renderer is a Renderer as the agent wants it.
type renderer struct{ *render.Renderer }

// Without returns one of all but one backend.
func (r renderer) Without(backend string, good []byte) (rest reconcile.Renderer, options string, isKept bool, err error) {
	without, options, isKept, err := r.Renderer.Without(backend, good)
	return renderer{without}, options, isKept, err
}

// NewFile returns the haproxy.cfg that the settings name.
func NewFile(cfg config.Config) (*render.File, error) {
	return render.NewFile(cfg.HAProxy.Config, cfg.HAProxy.CheckCommand, cfg.HAProxy.BaseConfig)
}

// NewStateFile returns the file of what must outlive the sidecar. It is beside haproxy.cfg,
// where the sidecar may write.
func NewStateFile(cfg config.Config) *statefile.File {
	return statefile.New(cfg.HAProxy.Config+".state", time.Now)
}

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

// Proxy is the HAProxy adapter as the agent wants it.
type Proxy struct {
	*haproxy.Client
	check  []string // the command that validates a file: its program tells the version
	socket string   // of the runtime API, for messages
	gate   *gate    // nil: any process is read, but none is changed
	spare  *spareMemory
}

var _ reconcile.HAProxy = Proxy{}

// NewProxy is the HAProxy of the settings. onCommand may be nil; it gets each command's
// kind, and whether it was refused.
func NewProxy(cfg config.Config, log hclog.Logger, onCommand func(string, bool)) (Proxy, error) {
	h := cfg.HAProxy
	c, err := haproxy.New(haproxy.Options{
		Runtime: h.Socket, Master: h.MasterSocket, ReloadCommand: h.ReloadCommand,
		Timeout: h.Timeout, ReloadTimeout: h.ReloadTimeout, Logger: log, OnCommand: onCommand,
	})
	return Proxy{Client: c, check: h.CheckCommand, socket: h.Socket, spare: newSpareMemory()}, err
}

// Observe reads a process that may be read.
func (p Proxy) Observe(ctx context.Context, backends []string) (plan.Observed, error) {
	p.spare.use(time.Now())
	o, err := p.Client.Observe(ctx, backends)
	return p.admitted(ctx, o, err)
}

// Compare is Observe beside the loop. What it has taken for a moment is given back
// without it waiting for that: how long a comparison takes says when the next one is due.
func (p Proxy) Compare(ctx context.Context, backends []string) (plan.Observed, error) {
	o, err := p.Client.Observe(ctx, backends)
	go p.spare.giveBack(time.Now())
	return p.admitted(ctx, o, err)
}

func (p Proxy) admitted(ctx context.Context, o plan.Observed, err error) (plan.Observed, error) {
	if err == nil && p.gate != nil {
		err = p.gate.admit(ctx, p, o)
	}
	if err != nil {
		return plan.Observed{}, err
	}
	return o, nil
}

// OldWorkers counts them; without a master socket there is no process to ask.
func (p Proxy) OldWorkers(ctx context.Context) (int, error) {
	workers, err := p.Client.OldWorkers(ctx)
	if errors.Is(err, haproxy.ErrNoMaster) {
		return 0, nil
	}
	return len(workers), err
}

// Capabilities asks the program that validates the file for its version.
func (p Proxy) Capabilities(ctx context.Context) plan.Capabilities {
	if len(p.check) == 0 || filepath.Base(p.check[0]) != "haproxy" {
		return plan.Capabilities{}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.check[0], "-v").Output()
	if err != nil {
		return plan.Capabilities{}
	}
	return haproxy.ProgramCapabilities(string(out))
}

func settings(cfg config.Config, r *render.Renderer) reconcile.Settings {
	return reconcile.Settings{
		Services: Policy(cfg, r), Damping: damping(cfg), Renderer: renderer{r}, Rotation: InRotation(cfg),
		ReloadDebounce: cfg.Reload.Debounce, ReloadMaxDelay: cfg.Reload.MaxDelay,
		ReloadInterval: cfg.Reload.MinInterval, MaxOldWorkers: cfg.Reload.MaxOldWorkers, MaxOldWorkersMemory: cfg.Reload.MaxMemory,
		Reconcile: cfg.ReconcileInterval, FileDelay: cfg.FileDelay,
		Maps: routeMaps(cfg), Pauses: pauseMap(cfg),
	}
}

// routeMaps is the routes of the frontends.
func routeMaps(cfg config.Config) []reconcile.RouteMap {
	out, rules, services := make([]reconcile.RouteMap, 0, len(cfg.Frontends)), cfg.Rules(), map[string]string{}
	for _, s := range cfg.Services {
		services[s.Backend] = s.Name
	}
	for _, f := range cfg.Frontends {
		routes := f.Compiled()
		want, _ := route.Compile(routes)
		m := reconcile.RouteMap{Frontend: f.Name, File: render.MapFile(mapPath(cfg.HAProxy.Config), f.Name), Default: f.Default, Want: want.Table(), Routes: []reconcile.RouteState{}}
		for i, r := range routes {
			if i < len(f.Routes) {
				state := routeState(r, route.FromSettings)
				state.Headers = f.Routes[i].Headers
				m.Routes = append(m.Routes, state)
			} else {
				m.Routes = append(m.Routes, routeState(r, f.Sources[i-len(f.Routes)]))
			}
		}
		m.Keep = mayBeClaimed(rules, f.Name, services)
		out = append(out, m)
	}
	return out
}

// mayBeClaimed tells of a line of a frontend's map that HAProxy has whether it can be a route
// that a service has claimed. services are those of the settings, by backend. It is nil for a
// frontend that takes no routes from Consul.
func mayBeClaimed(rules route.Rules, frontend string, services map[string]string) func(route.Entry) bool {
	if !slices.ContainsFunc(rules.Frontends, func(f route.FrontendRules) bool { return f.Name == frontend }) {
		return nil
	}
	return func(e route.Entry) bool {
		backend, _, _ := strings.Cut(e.Value, "/")
		return rules.MayHave(frontend, e.Key, cmp.Or(services[backend], backend))
	}
}

func routeState(r route.Route, source string) reconcile.RouteState {
	return reconcile.RouteState{
		Host: cmp.Or(r.Host, "*"), Path: cmp.Or(r.Path, "/"), Backend: r.Backend, Strip: r.Strip,
		Methods: r.Methods, Source: source,
	}
}

// NewLogger returns the sidecar's own.
func NewLogger(cfg config.Config, to io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "sidecar", Level: hclog.LevelFromString(cfg.Log.Level), Output: to,
		JSONFormat: cfg.Log.Format == config.LogJSON,
	}).With("lb", cfg.Name)
}

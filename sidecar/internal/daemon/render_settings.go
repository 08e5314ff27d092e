package daemon

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

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
		Timeouts: []render.Timeout{
			{Name: "connect", Value: t.Connect},
			{Name: "client", Value: t.Client},
			{Name: "server", Value: t.Server},
			{Name: "queue", Value: t.Queue},
			{Name: "http-request", Value: t.HTTPRequest},
			{Name: "http-keep-alive", Value: t.HTTPKeepAlive},
			{Name: "tunnel", Value: t.Tunnel},
		},
		Owner: plan.Owner{Name: cfg.Name, Host: Host(), File: ownFile(cfg)},
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
	out := render.Service{
		Name:    s.Name,
		Backend: s.Backend, Bind: s.Bind, Mode: string(s.Mode), Balance: s.Balance, RetryOn: s.RetryOn,
		Check: render.Check{
			Enabled: s.Check.Enabled, Path: s.Check.Path, Host: s.Check.Host,
			Inter: s.Check.Inter, FastInter: s.Check.FastInter, DownInter: s.Check.DownInter,
			Timeout: s.Check.Timeout, Rise: s.Check.Rise, Fall: s.Check.Fall,
		},
		ServerOptions: s.Options().String(), ServerFiles: s.Options().Files, InFile: s.InFile(),
		FrontendExtra: s.FrontendExtra, Preview: s.PreviewConditions(), BackendExtra: slices.Concat(s.PolicyLines(), s.BackendExtra, s.PauseLines(pauseFile(cfg))), Beside: s.PolicySections(),
	}
	if s.Profile != "" {
		out.Defaults, out.Check.Host = "pointsman.profile."+s.Profile, cmp.Or(s.Check.Host, backendName)
	}
	return out
}

// bindAddress is the runtime socket as a bind line has it: a path or a TCP
// address, without the prefixes that clients may give.
func bindAddress(socket string) string {
	for _, prefix := range []string{"unix@", "unix:", "tcp@"} {
		socket = strings.TrimPrefix(socket, prefix)
	}
	return socket
}

package daemon

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/sidecar/internal/statefile"
)

func settings(cfg config.Config, r *render.Renderer) reconcile.Settings {
	return reconcile.Settings{
		Services: Policy(cfg, r), Damping: damping(cfg), Renderer: renderer{r}, Rotation: InRotation(cfg),
		ReloadDebounce: cfg.Reload.Debounce, ReloadMaxDelay: cfg.Reload.MaxDelay,
		ReloadInterval: cfg.Reload.MinInterval, MaxOldWorkers: cfg.Reload.MaxOldWorkers, MaxOldWorkersMemory: cfg.Reload.MaxMemory,
		Reconcile: cfg.ReconcileInterval, FileDelay: cfg.FileDelay,
		Maps: routeMaps(cfg), Pauses: pauseMap(cfg),
	}
}

// Policy is the services as plan wants them, with what their haproxy.cfg has of
// the operator's own.
func Policy(cfg config.Config, r *render.Renderer) []plan.Service {
	services := make([]plan.Service, 0, len(cfg.Services)+len(cfg.Gone))
	for i, s := range slices.Concat(cfg.Services, cfg.Gone) {
		p := policyOf(cfg, s, r)
		p.Gone = i >= len(cfg.Services)
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

// NewStateFile returns the file of what must outlive the sidecar. It is beside haproxy.cfg,
// where the sidecar may write.
func NewStateFile(cfg config.Config) *statefile.File {
	return statefile.New(cfg.HAProxy.Config+".state", time.Now)
}

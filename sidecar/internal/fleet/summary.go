package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// maxReasons bounds the reasons of a summary: an answer stays small.
const maxReasons = 20

// Summary is how one load balancer does, without its instances: the body of
// /api/v1/summary.
type Summary struct {
	LoadBalancer string                 `json:"load_balancer"`
	Version      string                 `json:"version"` // the sidecar's
	Ready        bool                   `json:"ready"`
	Verdict      reconcile.Verdict      `json:"verdict"` // with the worst reasons
	HAProxy      reconcile.HAProxyState `json:"haproxy"`
	Consul       Contact                `json:"consul"`
	FileCurrent  bool                   `json:"file_current"`
	Reloads      reconcile.ReloadState  `json:"reloads"`
	Services     []Service              `json:"services"`
}

// Contact is how the sidecar reaches Consul.
type Contact struct {
	Reachable   bool      `json:"reachable"`
	LastContact time.Time `json:"last_contact"`
}

// Service is one service on one load balancer.
type Service struct {
	Name     string    `json:"name"`
	Backend  string    `json:"backend"`
	Index    uint64    `json:"index"` // of Consul's answer
	Held     int       `json:"held"`  // servers that the guard holds
	Rejected int       `json:"rejected"`
	Versions []Version `json:"versions"` // sorted by Version
}

// Version is the instances of one version of a service.
type Version struct {
	Version  string `json:"version"`
	Listed   bool   `json:"listed"` // Consul lists them; a server that it does not list has no known version
	Total    int    `json:"total"`
	Live     int    `json:"live"` // take traffic
	Starting int    `json:"starting"`
	Draining int    `json:"draining"`
	Down     int    `json:"down"`
	Weight   int    `json:"weight"` // of those that take traffic
	Sessions int    `json:"sessions"`
}

// Summarize sums up a state and what is thought of it.
func Summarize(s *reconcile.State, v reconcile.Verdict) Summary {
	out := Summary{
		LoadBalancer: s.LoadBalancer, Version: s.Version, Ready: s.Ready, Verdict: v, HAProxy: s.HAProxy,
		Consul:      Contact{s.Consul.Reachable, s.Consul.LastContact},
		FileCurrent: s.File.Current && !s.File.Pending && s.File.Error == "", Reloads: s.Reloads,
		Services: make([]Service, 0, len(s.Services)),
	}
	out.Verdict.Reasons = out.Verdict.Reasons[:min(maxReasons, len(out.Verdict.Reasons))]
	for i := range s.Services {
		out.Services = append(out.Services, summarize(&s.Services[i]))
	}
	return out
}

func summarize(svc *reconcile.ServiceState) Service {
	type key struct {
		version string
		listed  bool
	}
	of := map[key]*Version{}
	for i := range svc.Instances {
		inst := &svc.Instances[i]
		k := key{inst.Version, inst.ID != ""}
		if of[k] == nil {
			of[k] = &Version{Version: k.version, Listed: k.listed}
		}
		of[k].add(inst)
	}
	out := Service{Name: svc.Name, Backend: svc.Backend, Index: svc.Index, Held: len(svc.Guard.Held), Rejected: len(svc.Rejected), Versions: make([]Version, 0, len(of))}
	for _, v := range of {
		out.Versions = append(out.Versions, *v)
	}
	slices.SortFunc(out.Versions, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), compareBool(b.Listed, a.Listed))
	})
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (v *Version) add(i *reconcile.InstanceState) {
	v.Total++
	v.Sessions += i.Sessions
	switch {
	case i.GetsRequests():
		v.Live++
		v.Weight += i.Weight
	case i.Phase == reconcile.PhaseDown:
		v.Down++
	case i.Phase == reconcile.PhaseDraining, i.Phase == reconcile.PhaseDrained:
		v.Draining++
	case i.Phase == reconcile.PhaseStarting, i.Phase == reconcile.PhaseUnknown:
		v.Starting++
	}
}

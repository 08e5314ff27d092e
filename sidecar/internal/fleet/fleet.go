package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// Fleet is all load balancers, as one sidecar sees them: the body of
// /api/v1/fleet.
type Fleet struct {
	By            string              `json:"by"` // the load balancer whose sidecar has asked
	At            time.Time           `json:"at"`
	Status        reconcile.Status    `json:"status"` // the worst
	Reasons       []reconcile.Finding `json:"reasons"`
	LoadBalancers []LoadBalancer      `json:"load_balancers"` // sorted by Name
}

// LoadBalancer is one of a fleet.
type LoadBalancer struct {
	Name    string    `json:"name"`
	URL     string    `json:"url,omitempty"` // of its API; "" for the one that has asked
	Reached bool      `json:"reached"`
	Error   string    `json:"error,omitempty"`   // why it is not reached
	Stopped time.Time `json:"stopped,omitzero"`  // since when its sidecar has stopped, with HAProxy running
	TookMS  float64   `json:"took_ms"`           // its answer
	Differs []string  `json:"differs,omitempty"` // what it runs otherwise than most others
	Since   time.Time `json:"differs_since,omitzero"`
	Summary *Summary  `json:"summary"` // null if it is not reached
}

// settling is how long load balancers may differ: each follows Consul by itself.
const settling = 15 * time.Second

// maxDiffers bounds what is listed of one that differs.
const maxDiffers = 10

// judge finds who differs, and sums up. since says since when which load balancer
// differs; it is updated.
func (f *Fleet) judge(since map[string]time.Time) {
	f.compare()
	f.Status, f.Reasons = reconcile.InStep, []reconcile.Finding{}
	for i := range f.LoadBalancers {
		lb := &f.LoadBalancers[i]
		switch {
		case !lb.Stopped.IsZero():
			f.add(reconcile.Degraded, lb.Name+": sidecar stopped, HAProxy keeps running")
		case !lb.Reached:
			f.add(reconcile.Degraded, lb.Name+": not reachable: "+lb.Error)
		default:
			f.ofSummary(lb)
		}
		if len(lb.Differs) == 0 {
			delete(since, lb.Name)
			continue
		}
		if since[lb.Name].IsZero() {
			since[lb.Name] = f.At
		}
		lb.Since = since[lb.Name]
		status := reconcile.Behind
		if f.At.Sub(lb.Since) >= settling {
			status = reconcile.Degraded
		}
		f.add(status, fmt.Sprintf("%s: differs from the others: %s", lb.Name, lb.Differs[0]))
	}
	slices.SortStableFunc(f.Reasons, func(a, b reconcile.Finding) int { return cmp.Compare(rank(b.Status), rank(a.Status)) })
}

func (f *Fleet) ofSummary(lb *LoadBalancer) {
	v := lb.Summary.Verdict
	if rank(v.Status) > rank(reconcile.InStep) {
		text := strings.ReplaceAll(string(v.Status), "_", " ")
		if len(v.Reasons) > 0 {
			text = v.Reasons[0].Text
			if s := v.Reasons[0].Service; s != "" {
				text = s + ": " + text
			}
		}
		f.add(v.Status, lb.Name+": "+text)
	}
	if lb.Summary.HAProxy.Maintenance {
		f.add(reconcile.InStep, lb.Name+": in maintenance")
	}
}

func (f *Fleet) add(status reconcile.Status, text string) {
	if rank(status) > rank(f.Status) {
		f.Status = status
	}
	f.Reasons = append(f.Reasons, reconcile.Finding{Status: status, Text: text})
}

var ranks = []reconcile.Status{reconcile.InStep, reconcile.Behind, reconcile.Degraded, reconcile.NotRunning}

// rank orders statuses. One that another sidecar has made up is Degraded.
func rank(s reconcile.Status) int {
	if i := slices.Index(ranks, s); i >= 0 {
		return i
	}
	return slices.Index(ranks, reconcile.Degraded)
}

// compare finds those that run a backend otherwise than most that have it. Where
// two are even, the one with Consul's newer answer is right.
func (f *Fleet) compare() {
	type group struct {
		text  string
		n     int
		index uint64
	}
	of := map[[2]string]map[string]group{} // by service and backend, and by text
	for _, lb := range f.LoadBalancers {
		if lb.Summary == nil {
			continue
		}
		for _, svc := range lb.Summary.Services {
			key, text := [2]string{svc.Name, svc.Backend}, svc.text()
			if of[key] == nil {
				of[key] = map[string]group{}
			}
			was := of[key][text]
			of[key][text] = group{text: text, n: was.n + 1, index: max(was.index, svc.Index)}
		}
	}
	most := make(map[[2]string]string, len(of))
	for key, groups := range of {
		var best group
		for _, g := range groups {
			if cmp.Or(cmp.Compare(g.n, best.n), cmp.Compare(g.index, best.index), cmp.Compare(g.text, best.text)) > 0 {
				best = g
			}
		}
		most[key] = best.text
	}
	for i := range f.LoadBalancers {
		lb := &f.LoadBalancers[i]
		if lb.Summary == nil {
			continue
		}
		for _, svc := range lb.Summary.Services {
			want := most[[2]string{svc.Name, svc.Backend}]
			if text := svc.text(); text != want && len(lb.Differs) < maxDiffers {
				lb.Differs = append(lb.Differs, fmt.Sprintf("%s: %s, elsewhere %s", svc.Backend, cut(text), cut(want)))
			}
		}
	}
}

// text is which instances a service has.
func (s Service) text() string {
	var parts []string
	for _, v := range s.Versions {
		if v.Listed {
			parts = append(parts, fmt.Sprintf("%s %d of %d live", cmp.Or(v.Version, "no version"), v.Live, v.Total))
		}
	}
	if len(parts) == 0 {
		return "no instance"
	}
	return strings.Join(parts, " and ")
}

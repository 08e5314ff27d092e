package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// keepOfFleet keeps the backends of one service, or the one of that name, of each load
// balancer, and reports whether one has it.
func keepOfFleet(f *fleet.Fleet, service string) (found bool) {
	for _, lb := range f.LoadBalancers {
		if lb.Summary == nil {
			continue
		}
		lb.Summary.Services = slices.DeleteFunc(lb.Summary.Services, func(s fleet.Service) bool { return s.Name != service && s.Backend != service })
		found = found || len(lb.Summary.Services) > 0
	}
	return found
}

// isFleetFinal reports whether nothing is under way that would end by itself.
func isFleetFinal(f *fleet.Fleet) bool {
	return !slices.ContainsFunc(f.Reasons, func(r reconcile.Finding) bool { return r.Status == reconcile.Behind })
}

// fleet prints all load balancers. Others have said what it prints: it may be
// anything.
func (t *tree) fleet(f fleet.Fleet) {
	reached := 0
	var lines []branch
	for _, r := range f.Reasons {
		lines = append(lines, branch{text: t.finding(r)})
	}
	for _, lb := range f.LoadBalancers {
		if lb.Reached {
			reached++
		}
		lines = append(lines, t.loadBalancer(lb))
	}
	fmt.Fprintf(t.out, "%s  %s  %d of %d load balancers reached by %s\n", t.paint(bold, "fleet"), t.mark(f.Status), reached, len(f.LoadBalancers), catalog.Printable(f.By))
	t.printFit(lines)
}

// finding is one reason of a verdict.
func (t *tree) finding(r reconcile.Finding) string {
	if r.Status == reconcile.InStep {
		return "- " + visible(r.Text)
	}
	return t.paint(statusColours[r.Status], cmp.Or(statusMarks[r.Status], "!")) + " " + visible(r.Text)
}

func (t *tree) loadBalancer(lb fleet.LoadBalancer) branch {
	name := t.paint(bold, catalog.Printable(lb.Name))
	if lb.Summary == nil {
		why := "not reachable: " + lb.Error
		if !lb.Stopped.IsZero() {
			why = "sidecar stopped " + t.ago(lb.Stopped) + ", HAProxy keeps running"
		}
		return branch{text: name + "  " + t.paint(red, "✗ "+visible(why)), fold: fold{status: reconcile.Degraded, n: 1, noun: "load balancer", state: "not reachable"}}
	}
	s := lb.Summary
	b := branch{text: name + "  " + t.mark(s.Verdict.Status) + "  " + t.haproxy(s.HAProxy, s.Reloads) + ", Consul's oldest answer " + t.ago(s.Consul.LastContact)}
	b.fold = foldOf("load balancer", s.Verdict.Status)
	if !s.FileCurrent {
		b.text += ", haproxy.cfg not current"
	} else if s.Verdict.Status == reconcile.InStep && len(lb.Differs) == 0 {
		b.fold.level = foldCalm
	}
	for _, d := range lb.Differs {
		b.below = append(b.below, branch{text: t.paint(red, "≠") + " " + visible(d)})
	}
	for _, svc := range s.Services {
		title := svc.Name
		if svc.Backend != svc.Name {
			title += ", backend " + svc.Backend
		}
		weight := 0
		for _, v := range svc.Versions {
			weight += v.Weight
		}
		line := branch{text: t.paint(bold, catalog.Printable(title)), fold: fold{n: 1, noun: "service"}}
		for _, v := range slices.Backward(svc.Versions) {
			line.below = append(line.below, branch{text: versionLine(v, weight)})
		}
		if len(svc.Versions) == 1 && svc.Versions[0].Live == svc.Versions[0].Total {
			line.fold.level = foldVersion
			line.below[0].fold.level = foldDetail
		}
		b.below = append(b.below, line)
	}
	return b
}

func versionLine(v fleet.Version, weight int) string {
	name := cmp.Or(v.Version, "no version")
	if !v.Listed {
		name = "not in Consul"
	}
	percent := 0
	if weight > 0 {
		percent = 100 * v.Weight / weight
	}
	parts := []string{fmt.Sprintf("%s  %d of %d take traffic, %d%% of the weight, sessions %d", catalog.Printable(name), v.Live, v.Total, percent, v.Sessions)}
	for _, p := range []struct {
		n    int
		word string
	}{{v.Starting, "starting"}, {v.Draining, "draining"}, {v.Down, "down"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(parts, ", ")
}

// haproxy is HAProxy and its reloads on one line.
func (t *tree) haproxy(h reconcile.HAProxyState, r reconcile.ReloadState) string {
	text := "HAProxy not running"
	if h.Running {
		old := fmt.Sprint(h.OldWorkers)
		if h.OldWorkersUnknown {
			old = "unknown"
		}
		text = fmt.Sprintf("HAProxy %s, pid %d, old workers %s", visible(h.Version), h.PID, old)
	} else if !h.Stopped {
		text = "HAProxy cannot be read"
	}
	if h.Maintenance {
		text += ", in maintenance"
	}
	text += fmt.Sprintf(", reloads %d, failed %d", r.Succeeded, r.Failed)
	if r.LastReason != "" {
		text += fmt.Sprintf(", last %s (%s)", t.ago(r.Last), visible(strings.ReplaceAll(r.LastReason, "\n", " ")))
	}
	return text
}

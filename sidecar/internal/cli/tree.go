package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// maxListed is how many instances of a service are listed though they take
// traffic.
const maxListed = 10

// The terminal's colours (ECMA-48).
const (
	green    = "\x1b[32m"
	yellow   = "\x1b[33m"
	red      = "\x1b[31m"
	grey     = "\x1b[90m"
	bold     = "\x1b[1m"
	noColour = "\x1b[0m"
)

var statusColours = map[reconcile.Status]string{reconcile.InStep: green, reconcile.Behind: yellow, reconcile.Degraded: red, reconcile.NotRunning: red}

var statusMarks = map[reconcile.Status]string{reconcile.InStep: "✓", reconcile.Behind: "…", reconcile.Degraded: "!", reconcile.NotRunning: "✗"}

var phaseColours = map[reconcile.Phase]string{
	reconcile.PhaseUp: green, reconcile.PhaseStarting: yellow, reconcile.PhaseUnknown: yellow, reconcile.PhaseDraining: yellow,
	reconcile.PhaseDown: red, reconcile.PhaseDrained: grey, reconcile.PhaseOut: grey,
}

// branch is a line of a tree, and the lines below it.
type branch struct {
	text  string
	below []branch
	fold  fold
}

// tree prints a state for people.
type tree struct {
	out    io.Writer
	colour bool
	all    bool      // every instance
	now    time.Time // zero: times are shown as they are
	rows   int       // of the terminal that it must fit on; 0: any number
}

func (t *tree) paint(colour, text string) string {
	if !t.colour || colour == "" {
		return text
	}
	return colour + text + noColour
}

func (t *tree) ago(at time.Time) string {
	if at.Year() < 1971 {
		return "never"
	}
	if t.now.IsZero() {
		return "at " + at.Format(time.RFC3339)
	}
	return t.now.Sub(at).Round(time.Second).String() + " ago"
}

func (t *tree) mark(s reconcile.Status) string {
	return t.paint(statusColours[s], cmp.Or(statusMarks[s], "!")+" "+visible(strings.ReplaceAll(string(s), "_", " ")))
}

func (t *tree) state(s daemon.JudgedState) {
	consul := "Consul reachable"
	if !s.Consul.Reachable {
		consul = "Consul not reachable"
	}
	lines := []branch{{text: t.haproxy(s.HAProxy, s.Reloads)}, {text: consul + ", oldest answer " + t.ago(s.Consul.LastContact)}}
	best, worst := reconcile.InStep, map[string]reconcile.Status{}
	if s.Verdict.Status == reconcile.NotRunning {
		best = reconcile.NotRunning // nothing takes traffic
	}
	notes, walks := map[string][]branch{}, map[string]bool{}
	for _, f := range s.Verdict.Reasons {
		line := branch{text: t.finding(f)}
		if f.Service == "" {
			lines = append(lines, line)
			continue
		}
		worst[f.Backend] = cmp.Or(worst[f.Backend], f.Status) // the worst comes first
		notes[f.Backend] = append(notes[f.Backend], line)
	}
	for _, one := range s.Rollouts {
		if d := one.Document; d != nil && len(d.Shares) > 0 {
			for i := range s.Services {
				if backend := s.Services[i].Backend; s.Services[i].Name == one.Service && !daemon.IsPreview(&s.Services[i]) {
					walks[backend] = d.State == rollout.Running
					notes[backend] = append(notes[backend], branch{text: "rollout of " + catalog.Printable(d.Canary), below: leaves(stepLines(d, one.Report, t.now))})
				}
			}
		}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		name := svc.Name
		if slices.ContainsFunc(s.Services, func(o reconcile.ServiceState) bool { return o.Name == svc.Name && o.Backend != svc.Backend }) {
			name += ", backend " + svc.Backend
		}
		is := cmp.Or(worst[svc.Backend], best)
		b := t.service(name, svc, is, notes[svc.Backend])
		b.fold = foldOf("service", is)
		if is == best && !walks[svc.Backend] {
			b.fold.level = foldCalm
			if len(notes[svc.Backend]) > 0 {
				b.fold.level = foldNoted
			}
			for j := len(notes[svc.Backend]); j < len(b.below); j++ {
				b.below[j].fold.level = foldVersion
			}
		}
		lines = append(lines, b)
	}
	for i := range s.Frontends {
		lines = append(lines, t.frontend(&s.Frontends[i]))
	}
	if len(s.Certificates)+len(s.CertificateProblems) > 0 {
		lines = append(lines, t.certificates(s.Certificates, s.CertificateProblems))
	}
	lines = append(lines, refusedClaims(s.RouteProblems)...)
	fmt.Fprintf(t.out, "%s  %s\n", t.paint(bold, visible(s.LoadBalancer)), t.mark(s.Verdict.Status))
	t.printFit(lines)
}

func refusedClaims(problems []route.Problem) (lines []branch) {
	for i, p := range problems {
		b := branch{text: "claim refused: " + visible(p.String()), fold: fold{status: reconcile.Degraded, n: 1, noun: "claim", state: "refused"}}
		if i == maxRoutes {
			b.fold.n = len(problems) - maxRoutes
			b.text = fmt.Sprintf("and %d more refused claims: see --json", b.fold.n)
			return append(lines, b)
		}
		lines = append(lines, b)
	}
	return lines
}

// detail is the fold of what the line above counts.
func detail(noun string, n int) fold { return fold{level: foldDetail, n: n, noun: noun} }

// foldOf is what a service or load balancer with a status is counted as where it is hidden.
func foldOf(noun string, is reconcile.Status) fold {
	return fold{status: is, n: 1, noun: noun, state: visible(strings.ReplaceAll(string(is), "_", " "))}
}

func leaves(lines []string) (out []branch) {
	for _, line := range lines {
		out = append(out, branch{text: line})
	}
	return out
}

// maxRoutes is how many routes of a frontend are shown.
const maxRoutes = 20

// frontend is a frontend with its routes.
func (t *tree) frontend(f *reconcile.FrontendState) branch {
	b := branch{text: fmt.Sprintf("frontend %s, %d routes", visible(f.Name), len(f.Routes)), fold: fold{level: foldCalm, n: 1, noun: "frontend"}}
	if f.Error != "" {
		b.text += ", not applied: " + visible(f.Error)
		b.fold = foldOf("frontend", reconcile.Degraded)
	}
	for i, r := range f.Routes {
		if i == maxRoutes {
			b.below = append(b.below, branch{text: fmt.Sprintf("and %d more: see `pointsman explain route` and --json", len(f.Routes)-maxRoutes), fold: detail("route", len(f.Routes)-maxRoutes)})
			break
		}
		b.below = append(b.below, branch{text: visible(fmt.Sprintf("%s → %s (%s)", routeText(r), r.Backend, r.Source)), fold: detail("route", 1)})
	}
	if f.Default != "" {
		b.below = append(b.below, branch{text: "otherwise → " + visible(f.Default), fold: detail("route", 1)})
	}
	return b
}

// maxCertificates is how many certificates are shown, and how many that cannot be used.
const maxCertificates = 20

// certificates is those of all services, the first to expire first.
func (t *tree) certificates(all []daemon.CertificateState, problems []daemon.CertificateProblem) branch {
	b := branch{text: fmt.Sprintf("certificates %d, cannot be used %d", len(all), len(problems)), fold: fold{level: foldCalm, n: len(all), noun: "certificate"}}
	if len(problems) > 0 {
		b.fold = fold{status: reconcile.Degraded, n: len(problems), noun: "certificate", state: "that cannot be used"}
	}
	and := func(n int, f func(string, int) fold) {
		if n > maxCertificates {
			b.below = append(b.below, branch{text: fmt.Sprintf("and %d more: see --json", n-maxCertificates), fold: f("certificate", n-maxCertificates)})
		}
	}
	for _, p := range problems[:min(len(problems), maxCertificates)] {
		b.below = append(b.below, branch{text: t.paint(red, "!") + " " + visible(fmt.Sprintf("%s of %s cannot be used: %s", p.File, p.Backend, p.Error))})
	}
	and(len(problems), func(string, int) fold { return fold{} })
	byEnd := slices.SortedStableFunc(slices.Values(all), func(x, y daemon.CertificateState) int { return x.NotAfter.Compare(y.NotAfter) })
	for _, c := range byEnd[:min(len(byEnd), maxCertificates)] {
		b.below = append(b.below, branch{text: visible(fmt.Sprintf("%s of %s (%s) expires %s", c.Name, c.Backend, strings.Join(c.Hosts, ", "), c.NotAfter.Format(time.RFC3339))), fold: detail("certificate", 1)})
	}
	and(len(byEnd), detail)
	return b
}

// printFit prints branches, on a terminal those that fit below a first line and above the
// cursor.
func (t *tree) printFit(lines []branch) {
	if t.rows > 0 {
		lines = fit(lines, max(1, t.rows-2))
	}
	t.print(lines, "")
}

func (t *tree) print(lines []branch, indent string) {
	for i, l := range lines {
		corner, next := "├─ ", "│  "
		if i == len(lines)-1 {
			corner, next = "└─ ", "   "
		}
		fmt.Fprintln(t.out, t.paint(grey, indent+corner)+l.text)
		t.print(l.below, indent+next)
	}
}

// share is what a number of instances have in common.
type share struct {
	total, live, weight, sessions int
	instances                     []*reconcile.InstanceState
}

func (s *share) add(i *reconcile.InstanceState) {
	s.total++
	s.sessions += i.Sessions
	s.instances = append(s.instances, i)
	if i.GetsRequests() {
		s.live++
		s.weight += i.Weight
	}
}

func (t *tree) service(name string, svc *reconcile.ServiceState, is reconcile.Status, notes []branch) branch {
	var all share
	versions := map[string]*share{}
	for i := range svc.Instances {
		inst := &svc.Instances[i]
		name := inst.Version
		switch {
		case inst.Own:
			name = "the operator's own"
		case inst.RoleLost:
			name = "without the backend's tags"
		case inst.Health == "unknown":
			name = "not known before Consul answers"
		case inst.ID == "":
			name = "not in Consul"
		case name == "":
			name = "no version"
		}
		if versions[name] == nil {
			versions[name] = &share{}
		}
		all.add(inst)
		versions[name].add(inst)
	}
	b := branch{text: fmt.Sprintf("%s  %s  %d of %d take traffic", t.paint(bold, visible(name)), t.mark(is), all.live, all.total), below: notes}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(versions))) {
		v := versions[name]
		percent := 0
		if all.weight > 0 {
			percent = 100 * v.weight / all.weight
		}
		line := branch{text: fmt.Sprintf("%s  %d of %d take traffic, %d%% of the weight, sessions %d", catalog.Printable(name), v.live, v.total, percent, v.sessions)}
		hidden := 0
		for _, i := range v.instances {
			if !t.all && all.total > maxListed && i.GetsRequests() && i.Reason == "" {
				hidden++
				continue
			}
			leaf := branch{text: t.instance(i)}
			if i.GetsRequests() && i.Reason == "" {
				leaf.fold = upFold(1)
			}
			line.below = append(line.below, leaf)
		}
		if hidden > 0 {
			line.below = append(line.below, branch{text: t.paint(grey, fmt.Sprintf("%d up (--all lists them)", hidden)), fold: upFold(hidden)})
		}
		b.below = append(b.below, line)
	}
	return b
}

func upFold(n int) fold { return fold{level: foldDetail, n: n, noun: "instance", state: "up"} }

// sinceText is since when something is as it is, and how long that is.
func sinceText(at, now time.Time) string {
	if now.IsZero() {
		return "since " + at.Format(time.RFC3339)
	}
	at, layout := at.Local(), time.DateTime
	if at.Format(time.DateOnly) == now.Local().Format(time.DateOnly) {
		layout = time.TimeOnly
	}
	return fmt.Sprintf("since %s (%s)", at.Format(layout), now.Sub(at).Round(time.Second))
}

// weightText is the weight in effect, and where that is not Consul's, of what and why.
func weightText(i *reconcile.InstanceState) string {
	if i.WeightReason == "" {
		return fmt.Sprintf("weight %d", i.Weight)
	}
	return fmt.Sprintf("weight %d of %d (%s)", i.EffectiveWeight, i.ConsulWeight, i.WeightReason)
}

func (t *tree) instance(i *reconcile.InstanceState) string {
	line := catalog.Printable(cmp.Or(i.ID, i.Server)) + "  " + t.paint(phaseColours[i.Phase], string(i.Phase))
	if i.Server != i.ID && i.ID != "" {
		line += "  " + i.Server
	}
	line += fmt.Sprintf("  %s  %s  sessions %d", i.Addr, weightText(i), i.Sessions)
	if i.Reason != "" {
		line += "  " + visible(i.Reason)
	}
	if !i.Since.IsZero() {
		line += "  " + sinceText(i.Since, t.now)
	}
	if i.ConsulCheck != "" {
		line += "  " + visible("Consul's check: "+i.ConsulCheck)
	}
	return line
}

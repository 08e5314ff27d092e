package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func explainServiceCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "service SERVICE|BACKEND",
		Short: "Show what a service waits for on this load balancer",
		Long: `Ask the running sidecar about a service: how many of its servers take traffic, why
each of the others does not, what the guard holds, what is rejected, what else is
wrong, and what happened last. Exits with 1 if this load balancer does not route it.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeServices(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, happened, err := stateAndEvents(cmd, env)
			if err != nil {
				return err
			}
			names := servicesOf(s.State)
			if !keepService(&s, args[0]) {
				return failure(fmt.Errorf("explain service %s: this load balancer does not route it; it routes %s", catalog.Printable(args[0]), cmp.Or(strings.Join(names, ", "), "none")))
			}
			return explainServices(env.Stdout, s, happened, answersOf(cmd, env, s.State))
		},
	}
}

// answersOf asks whose answers the clients of services got, by backend; HAProxy may not tell.
func answersOf(cmd *cobra.Command, env Env, s *reconcile.State) map[string]sidecarapi.Answers {
	all := map[string]sidecarapi.Answers{}
	for _, name := range servicesOf(s) {
		_ = askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error { // the state has the rest
			answer, err := c.Counters(cmd.Context(), to, name)
			for _, a := range answer.Answers {
				all[a.Backend] = a
			}
			return err
		})
	}
	return all
}

// servicesOf returns the names of the services, each once.
func servicesOf(s *reconcile.State) (names []string) {
	for i := range s.Services {
		names = append(names, s.Services[i].Name) // they are sorted
	}
	return slices.Compact(names)
}

// explainServices prints what is known of each service that is left in the state.
func explainServices(w io.Writer, s daemon.JudgedState, events []event.Event, answers map[string]sidecarapi.Answers) error {
	t := table(w)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, visible(fmt.Sprintf(format, args...)))
	}
	for i := range s.Services {
		svc := &s.Services[i]
		row("service", "%s, backend %s", svc.Name, svc.Backend)
		row("servers", "%s", targetText(s.State, svc.Backend))
		switch {
		case svc.Error != "":
			row("Consul", "last answered %s, since then: %s", svc.Answered.Format(time.RFC3339), svc.Error)
		case !svc.Known:
			row("Consul", "has not answered completely yet")
		default:
			row("Consul", "answered %s", svc.Answered.Format(time.RFC3339))
		}
		if g := svc.Guard; len(g.Held) > 0 {
			row("guard", "holds %d servers since %s%s; `pointsman guard release %s` ends it", len(g.Held), g.Since.Format(time.RFC3339), untilText(g.Until), svc.Name)
		}
		if a, has := answers[svc.Backend]; has {
			row("5xx", "%d, of these %d by servers that are there now; by HAProxy: no server up, queue or connection %d, answer broken or late %d", a.Status5xx, a.Service5xx, a.NoServer, a.Broken)
			row("4xx", "%d, of these %d by servers that are there now; denied by HAProxy's rules, with any status: %d", a.Status4xx, a.Service4xx, a.Denied)
		}
		explainOthers(row, s, svc)
		for _, e := range newest(events, func(e event.Event) bool { return e.Backend == svc.Backend }) {
			row(e.At.Format(time.TimeOnly), "%s %s", cmp.Or(e.Instance, e.Server), eventText(e))
		}
	}
	return t.Flush()
}

func untilText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return ", until " + at.Format(time.RFC3339) + " at the latest"
}

// explainOthers prints the instances that take no traffic or wait for something,
// those that were rejected, and what of the verdict concerns the service or all.
func explainOthers(row func(name, format string, args ...any), s daemon.JudgedState, svc *reconcile.ServiceState) {
	shown := 0
	for i := range svc.Instances {
		inst := &svc.Instances[i]
		if inst.Reason == "" {
			continue
		}
		if shown++; shown > maxListed {
			continue
		}
		name := cmp.Or(inst.ID, inst.Server)
		if inst.GetsRequests() {
			row("waits", "%s: %s", catalog.Printable(name), inst.Reason)
		} else {
			row("no traffic", "%s: %s", catalog.Printable(name), inst.Reason)
		}
		if inst.ConsulCheck != "" {
			row("Consul check", "%s: %s", catalog.Printable(name), inst.ConsulCheck)
		}
	}
	if shown > maxListed {
		row("and", "%d more: `pointsman status %s` lists them", shown-maxListed, svc.Name)
	}
	for i, r := range svc.Rejected {
		if i == maxListed {
			row("and", "%d more rejected: see `pointsman status --json %s`", len(svc.Rejected)-maxListed, svc.Name)
			break
		}
		row("rejected", "%s on %s: %s", catalog.Printable(r.ID), catalog.Printable(r.Node), r.Error)
	}
	for _, f := range s.Verdict.Reasons {
		if f.Backend == svc.Backend || f.Backend == "" {
			row(strings.ReplaceAll(string(f.Status), "_", " "), "%s", f.Text)
		}
	}
}

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// maxExplained is how many events of an instance are shown.
const maxExplained = 10

func explainCommand(env Env) *cobra.Command {
	cmd := explainServerCommand(env, "explain INSTANCE|SERVER|ADDRESS")
	cmd.AddCommand(explainServerCommand(env, "server INSTANCE|SERVER|ADDRESS"),
		explainRouteCommand(env), explainServiceCommand(env), explainReloadCommand(env))
	return cmd
}

// explainServerCommand is there under two names: as `explain NAME`, and as
// `explain server NAME` for one that is called as another of the commands.
func explainServerCommand(env Env, use string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: "Show why a server gets no traffic",
		Long: `Ask the running sidecar about one instance, by its ID in Consul, the name of its
server in HAProxy or its address: whether it takes traffic, if not why, what it
waits for, and what happened to it last. Exits with 1 if it is not known here.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, happened, err := stateAndEvents(cmd, env)
			if err != nil {
				return err
			}
			if !explain(env.Stdout, s.State, happened, args[0]) {
				return failure(unexplained(s.State, args[0]))
			}
			return nil
		},
	}
}

// unexplained is the error for an instance that is not known here.
func unexplained(s *reconcile.State, name string) error {
	isUnknown := func(x reconcile.ServiceState) bool { return !x.Known }
	if slices.ContainsFunc(s.Services, isUnknown) {
		return fmt.Errorf("explain %s: not known, and Consul has not answered for all services yet", catalog.Printable(name))
	}
	return fmt.Errorf("explain %s: no backend of this load balancer has such a server, and Consul lists no such instance with the tags and the filter of one", catalog.Printable(name))
}

// explain prints what is known of an instance, and reports whether anything is.
func explain(w io.Writer, s *reconcile.State, events []event.Event, name string) (found bool) {
	t := table(w)
	defer func() { _ = t.Flush() }() // to a terminal
	for i := range s.Services {
		svc := &s.Services[i]
		for j := range svc.Instances {
			if inst := &svc.Instances[j]; inst.ID == name || inst.Server == name || inst.Addr == name {
				found = true
				explainInstance(t, s, svc, inst)
				explainEvents(t, svc.Backend, inst, events)
			}
		}
		for _, r := range svc.Rejected {
			if r.ID == name {
				found = true
				fmt.Fprintf(t, "instance\t%s on %s, service %s\n", catalog.Printable(r.ID), catalog.Printable(r.Node), svc.Name)
				fmt.Fprintf(t, "takes traffic\tno: rejected: %s\n", visible(r.Error))
			}
		}
	}
	return found
}

func explainInstance(w io.Writer, s *reconcile.State, svc *reconcile.ServiceState, i *reconcile.InstanceState) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, visible(fmt.Sprintf(format, args...)))
	}
	if i.ID != "" {
		row("instance", "%s on %s, service %s, version %s", catalog.Printable(i.ID), catalog.Printable(i.Node), svc.Name, catalog.Printable(dash(i.Version)))
	}
	row("server", "%s/%s at %s", svc.Backend, i.Server, i.Addr)
	if i.MovesTo != "" {
		row("moves to", "%s", i.MovesTo)
	}
	switch {
	case !s.HAProxy.Running:
		row("takes traffic", "unknown: %s", i.Reason)
	case i.Own:
		row("takes traffic", "as HAProxy decides: a server of the operator's own, left alone")
	case i.TakesTraffic():
		row("takes traffic", "yes")
	default:
		row("takes traffic", "no: %s", i.Reason)
	}
	if i.TakesTraffic() && i.Reason != "" {
		row("waits", "%s", i.Reason)
	}
	row("HAProxy", "phase %s, state %s, weight %d, sessions %d", i.Phase, dash(i.Admin), i.Weight, i.Sessions)
	if i.RoleLost {
		row("Consul", "listed, without a tag of the backend")
	} else {
		row("Consul", "%s%s", i.Health, map[bool]string{true: ", leaving"}[i.Leaving])
	}
	if !i.DampedUntil.IsZero() {
		row("flapping", "%d times, suppressed until %s", i.Flaps, i.DampedUntil.Format(time.RFC3339))
	}
	if len(svc.Guard.Held) > 0 {
		row("guard", "holds %d servers of the service since %s", len(svc.Guard.Held), svc.Guard.Since.Format(time.RFC3339))
	}
}

// explainEvents prints the newest events of an instance or its server.
func explainEvents(w io.Writer, backend string, i *reconcile.InstanceState, events []event.Event) {
	var own []event.Event
	for _, e := range events {
		if e.Backend == backend && (i.ID != "" && e.Instance == i.ID || e.Instance == "" && e.Server == i.Server) {
			own = append(own, e)
		}
	}
	for _, e := range own[max(0, len(own)-maxExplained):] {
		fmt.Fprintf(w, "%s\t%s\n", e.At.Format(time.TimeOnly), eventText(e))
	}
}

// eventText is what happened, without time and place.
func eventText(e event.Event) string {
	parts := []string{strings.ReplaceAll(string(e.Kind), "_", " ")}
	for _, p := range []string{e.Detail, strings.ReplaceAll(e.Reason, "_", " "), e.Error} {
		if p != "" {
			parts = append(parts, visible(p))
		}
	}
	return strings.Join(parts, ": ")
}

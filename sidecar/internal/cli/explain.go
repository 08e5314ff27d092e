package cli

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// maxExplained is how many events of an instance are shown.
const maxExplained = 10

func explainCommand(env Env) *cobra.Command {
	cmd := explainServerCommand(env, "explain [SERVICE/]INSTANCE|SERVER|ADDRESS")
	cmd.AddCommand(explainServerCommand(env, "server [SERVICE/]INSTANCE|SERVER|ADDRESS"),
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
server in HAProxy or its address, with or without its port: whether it takes traffic,
if not why, what it waits for, and what happened to it last. Put SERVICE/ or BACKEND/
before the name if several services have it. Exits with 1 if the name is unknown here,
or ambiguous; then the candidates are listed.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeServers(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, happened, err := stateAndEvents(cmd, env)
			if err != nil {
				return err
			}
			return failure(explain(env.Stdout, s.State, happened, countersOf(cmd, env, s.State, args[0]), args[0]))
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

// maxCandidates is how many servers are listed where a name means several.
const maxCandidates = 20

// explain prints what is known of the instance with a name. A name of none or of several is
// an error; without counters there is no slow start.
func explain(w io.Writer, s *reconcile.State, events []event.Event, counted countersByServer, name string) error {
	servers, rejected := findNamed(s, name)
	if len(servers)+len(rejected) == 0 {
		return unexplained(s, name)
	}
	for _, m := range servers {
		// A service may have several backends, with the same instance in each.
		if first := servers[0].instance; m.instance.ID != first.ID || m.instance.Node != first.Node || first.ID == "" && m.instance != first {
			return fmt.Errorf("explain %s: ambiguous, name one of:%s", catalog.Printable(name), listMeant(servers))
		}
	}
	t := table(w)
	for _, m := range servers {
		explainInstance(t, s, m.service, m.instance, counted[[2]string{m.service.Backend, m.instance.Server}])
		explainEvents(t, m.service.Backend, m.instance, events)
	}
	for _, m := range rejected {
		fmt.Fprintf(t, "instance\t%s on %s, service %s\n", catalog.Printable(m.rejected.ID), catalog.Printable(m.rejected.Node), m.service.Name)
		fmt.Fprintf(t, "takes traffic\tno: rejected: %s\n", visible(m.rejected.Error))
	}
	return t.Flush()
}

// countersByServer are counters by backend and server.
type countersByServer map[[2]string]sidecarapi.InstanceCounters

// countersOf asks for the counters of the service of which a name means a server; none where
// it is in several services, or HAProxy does not tell.
func countersOf(cmd *cobra.Command, env Env, s *reconcile.State, name string) countersByServer {
	servers, _ := findNamed(s, name)
	if len(servers) == 0 || slices.ContainsFunc(servers, func(m meant) bool { return m.service.Name != servers[0].service.Name }) {
		return nil
	}
	all := countersByServer{}
	_ = askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error { // the state has the rest
		answer, err := c.Counters(cmd.Context(), to, servers[0].service.Name)
		for _, i := range answer.Instances {
			all[[2]string{i.Backend, i.Server}] = i
		}
		return err
	})
	return all
}

// meant is a server, or an instance that is rejected, that a name means.
type meant struct {
	service  *reconcile.ServiceState
	instance *reconcile.InstanceState
	rejected *reconcile.RejectedState
}

// findNamed returns those that a name means: an ID, a server's name or an address, perhaps
// with the service or the backend before it.
func findNamed(s *reconcile.State, name string) (servers, rejected []meant) {
	for i := range s.Services {
		svc := &s.Services[i]
		names := []string{name}
		for _, prefix := range []string{svc.Name + "/", svc.Backend + "/"} {
			if rest, is := strings.CutPrefix(name, prefix); is && !slices.Contains(names, rest) {
				names = append(names, rest)
			}
		}
		for j := range svc.Instances {
			inst := &svc.Instances[j]
			if slices.ContainsFunc(names, func(n string) bool {
				return n != "" && (n == inst.ID || n == inst.Server || isAddress(n, inst.Addr) || isAddress(n, inst.MovesTo))
			}) {
				servers = append(servers, meant{service: svc, instance: inst})
			}
		}
		for j := range svc.Rejected {
			if r := &svc.Rejected[j]; slices.Contains(names, r.ID) {
				rejected = append(rejected, meant{service: svc, rejected: r})
			}
		}
	}
	return servers, rejected
}

// isAddress reports whether a name is an address, or is it without its port.
func isAddress(name, address string) bool {
	if name == address {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	return err == nil && host == strings.Trim(name, "[]")
}

// listMeant lists servers as BACKEND/SERVER, each on a line.
func listMeant(servers []meant) string {
	var b strings.Builder
	for i, m := range servers {
		if i == maxCandidates {
			fmt.Fprintf(&b, "\nand %d more", len(servers)-maxCandidates)
			break
		}
		fmt.Fprintf(&b, "\n%s/%s at %s", m.service.Backend, visible(m.instance.Server), m.instance.Addr)
		if m.instance.ID != "" && m.instance.ID != m.instance.Server {
			fmt.Fprintf(&b, ", instance %s on %s", catalog.Printable(m.instance.ID), catalog.Printable(m.instance.Node))
		}
	}
	return b.String()
}

func explainInstance(w io.Writer, s *reconcile.State, svc *reconcile.ServiceState, i *reconcile.InstanceState, counted sidecarapi.InstanceCounters) {
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
	case i.GetsRequests():
		row("takes traffic", "yes")
	default:
		row("takes traffic", "no: %s", i.Reason)
	}
	if i.GetsRequests() && i.Reason != "" {
		row("waits", "%s", i.Reason)
	}
	since := ""
	if !i.Since.IsZero() {
		since = " " + sinceText(i.Since, time.Now())
	}
	row("HAProxy", "phase %s%s, state %s, %s, sessions %d", i.Phase, since, dash(i.Admin), weightText(i), i.Sessions)
	if counted.SlowStart > 0 && i.GetsRequests() {
		row("slow start", "weight %d of %d now (%d%%)", counted.Weight, i.EffectiveWeight, counted.SlowStart)
	}
	if i.RoleLost {
		row("Consul", "listed, without a tag of the backend")
	} else {
		row("Consul", "%s%s", i.Health, map[bool]string{true: ", leaving"}[i.Leaving])
	}
	if i.ConsulCheck != "" {
		row("Consul check", "%s", i.ConsulCheck)
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
	for _, e := range newest(events, func(e event.Event) bool {
		return e.Backend == backend && (i.ID != "" && e.Instance == i.ID || e.Instance == "" && e.Server == i.Server)
	}) {
		fmt.Fprintf(w, "%s\t%s\n", e.At.Format(time.TimeOnly), eventText(e))
	}
}

// newest returns the last maxExplained of the events that are meant.
func newest(events []event.Event, isMeant func(event.Event) bool) []event.Event {
	own := slices.DeleteFunc(slices.Clone(events), func(e event.Event) bool { return !isMeant(e) })
	return own[max(0, len(own)-maxExplained):]
}

// eventText is what happened, without time and place.
func eventText(e event.Event) string {
	parts := []string{strings.ReplaceAll(string(e.Kind), "_", " ")}
	reason := strings.ReplaceAll(e.Reason, "_", " ")
	if strings.HasPrefix(e.Detail, reason) { // requested, by whom
		reason = ""
	}
	for _, p := range []string{e.Detail, reason, e.Error} {
		if p != "" {
			parts = append(parts, visible(p))
		}
	}
	return strings.Join(parts, ": ")
}

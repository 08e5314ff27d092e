package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func drainCommand(env Env) *cobra.Command {
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "drain [[SERVICE/]SERVER | BACKEND/SERVER]",
		Short: "Keep a server in drain on this load balancer; without a name, list those that are",
		Long: `Keep a server in drain on this load balancer: it finishes what it has and gets no
new sessions, until "ready". The running sidecar keeps it in drain across its own
restarts and HAProxy's. Name the server as HAProxy has it, or by its instance's
Consul ID. The drain waits while it would leave the service with fewer than
min_servers servers, or with none. Without a name, the servers are listed that
are kept in drain.

With --wait the command returns when the server has no session left, in old workers
too. Without it, and with --wait 0s, it returns once the sidecar has the drain on disk
and HAProxy shows it, after 2 s at most, and prints how many sessions are left. Exit
codes: 0 done, 1 failed or not drained within --wait, 2 invalid usage.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeServers(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait < 0 {
				return &exitError{Code: ExitUsage, Err: fmt.Errorf("--wait %s: must not be negative", wait)}
			}
			if len(args) > 0 {
				return setDrain(cmd, env, args[0], true, asJSON, wait)
			}
			var s reconcile.State
			if err := askState(cmd, env, &s); err != nil {
				return err
			}
			return failure(printDrains(env.Stdout, s.Drains, asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "longest wait until the server has no session left; 0s does not wait for that (default 0s)")
	return cmd
}

func readyCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ready [SERVICE/]SERVER | BACKEND/SERVER",
		Short: "End what \"drain\" began: the server takes traffic again",
		Long: `End what "drain" began. The command returns once the sidecar has that on disk. The
server takes traffic as soon as HAProxy's check passes for it; "pointsman status"
shows when.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeServers(env),
		RunE:              func(cmd *cobra.Command, args []string) error { return setDrain(cmd, env, args[0], false, asJSON, 0) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func setDrain(cmd *cobra.Command, env Env, named string, on, asJSON bool, wait time.Duration) error {
	var d sidecarapi.OperatorDrain
	var drained bool
	what := "is not kept in drain"
	err := askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error {
		var s reconcile.State
		err := c.State(cmd.Context(), to, &s)
		if err != nil {
			return err
		}
		service, server, err := findServer(s, named)
		if err != nil {
			return err
		}
		d, err = c.SetDrain(cmd.Context(), to, service, server, on)
		if err == nil && on {
			what, drained, err = followDrain(cmd.Context(), func(s *reconcile.State) error { return c.State(cmd.Context(), to, s) }, d, wait)
		}
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(env.Stdout).Encode(d)
	} else {
		_, err = fmt.Fprintf(env.Stdout, "%s: %s/%s %s\n", d.LoadBalancer, d.Service, d.Server, what)
	}
	if err == nil && on && wait > 0 && !drained {
		err = fmt.Errorf("not drained within %s", wait)
	}
	return failure(err)
}

const (
	// settleTime is how long a drain that has just begun may take to show.
	settleTime = 2 * time.Second
	// followPace is how often it is looked at.
	followPace = 100 * time.Millisecond
)

// followDrain says how far an operator's drain is, once it shows, or after wait.
func followDrain(ctx context.Context, read func(*reconcile.State) error, d sidecarapi.OperatorDrain, wait time.Duration) (what string, drained bool, err error) {
	began := time.Now()
	for {
		var s reconcile.State
		if err := read(&s); err != nil {
			return "", false, err
		}
		what, begun, drained := drainProgress(s, d)
		took := time.Since(began)
		if drained || took >= wait && (begun || took >= settleTime) {
			return what, drained, nil
		}
		daemon.Sleep(ctx, followPace)
	}
}

// drainProgress says how a server is that an operator keeps in drain: in every
// backend of the service. A reason why it still takes traffic counts as begun.
func drainProgress(s reconcile.State, d sidecarapi.OperatorDrain) (what string, begun, drained bool) {
	what, begun, drained = "is kept in drain", true, true
	found := false
	for _, svc := range s.Services {
		for _, i := range svc.Instances {
			if svc.Name != d.Service || i.ID == "" || d.Server != catalog.ServerName(i.ID, "") && d.Server != catalog.ServerName(i.ID, i.Node) {
				continue
			}
			found = true
			sessions := ""
			if i.Sessions > 0 {
				sessions = fmt.Sprintf(", sessions %d", i.Sessions)
			}
			what += fmt.Sprintf("; %s: %s%s", svc.Backend, i.Phase, sessions)
			if i.Reason != "" {
				what += ", " + i.Reason
			}
			begun = begun && !i.Drain.IsZero() && (i.Phase != reconcile.PhaseUp || i.Waiting != "")
			drained = drained && !i.Drain.IsZero() && i.Sessions == 0 && (i.Phase == reconcile.PhaseDrained || i.Phase == reconcile.PhaseOut)
		}
	}
	return what, begun, drained && found
}

// findServer finds the service of a server that is named as HAProxy has it, by its
// instance's ID, or as it is kept in drain.
func findServer(s reconcile.State, named string) (service, server string, err error) {
	var found []string
	add := func(service string, names ...string) {
		for _, name := range names {
			if (name == named || service+"/"+name == named) && name != "" {
				server = name
				if !slices.Contains(found, service) {
					found = append(found, service)
				}
			}
		}
	}
	for _, svc := range s.Services {
		for _, i := range svc.Instances {
			add(svc.Name, i.Server, i.ID)
			if svc.Backend != svc.Name && (named == svc.Backend+"/"+i.Server || named == svc.Backend+"/"+i.ID) {
				add(svc.Name, named)
				server = cmp.Or(i.ID, i.Server) // the other backend may have this name for another instance
			}
		}
	}
	for _, d := range s.Drains {
		add(d.Service, d.Server)
	}
	switch len(found) {
	case 0:
		return "", "", fmt.Errorf("%s: no service here has such a server", catalog.Printable(named))
	case 1:
		return found[0], server, nil
	}
	return "", "", fmt.Errorf("%s: several services have such a server, name it as SERVICE/SERVER: %s", catalog.Printable(named), strings.Join(found, ", "))
}

func printDrains(w io.Writer, drains []catalog.OperatorDrain, asJSON bool) error {
	return printList(w, drains, asJSON, "No server is kept in drain by an operator.", "OPERATOR DRAIN\tSERVER\tSINCE", func(d catalog.OperatorDrain) []string {
		return []string{d.Service, d.Server, d.Since.Format(time.RFC3339)}
	})
}

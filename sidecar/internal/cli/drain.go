package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func drainCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "drain [[SERVICE/]SERVER | BACKEND/SERVER]",
		Short: "Keep a server in drain on this load balancer; without a name, list those that are",
		Long: `Keep a server in drain on this load balancer: it finishes what it has and gets no
new sessions, until "ready". The running sidecar keeps it in drain across its own
restarts and HAProxy's. Name the server as HAProxy has it, or by its instance's
Consul ID. It waits while the service would be left with fewer servers than
min_servers, and at least one. Without a name, the servers are listed that are
kept in drain.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return setDrain(cmd, env, args[0], true, asJSON)
			}
			var s reconcile.State
			err := askOwn(cmd, env, func(c *api.Client, to api.Target) error { return c.State(cmd.Context(), to, &s) })
			if err != nil {
				return err
			}
			return failure(printDrains(env.Stdout, s.Drains, asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func readyCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ready [SERVICE/]SERVER | BACKEND/SERVER",
		Short: "End what \"drain\" began: the server takes traffic again",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return setDrain(cmd, env, args[0], false, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func setDrain(cmd *cobra.Command, env Env, named string, on, asJSON bool) error {
	var d api.OperatorDrain
	err := askOwn(cmd, env, func(c *api.Client, to api.Target) error {
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
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		return failure(json.NewEncoder(env.Stdout).Encode(d))
	}
	what := "is not kept in drain"
	if on {
		what = "is kept in drain"
	}
	_, err = fmt.Fprintf(env.Stdout, "%s: %s/%s %s\n", d.LoadBalancer, d.Service, d.Server, what)
	return failure(err)
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
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(drains)
	}
	if len(drains) == 0 {
		_, err := fmt.Fprintln(w, "No server is kept in drain by an operator.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OPERATOR DRAIN\tSERVER\tSINCE")
	for _, d := range drains {
		fmt.Fprintf(t, "%s\t%s\t%s\n", d.Service, d.Server, d.Since.Format(time.RFC3339))
	}
	return t.Flush() // the writer keeps the first error
}

// drainer is what the status API asks of the agent.
func drainer(a *reconcile.Agent) api.SetDrain {
	return func(ctx context.Context, service, server string, on bool) (string, bool, error) {
		d, err := a.SetDrain(ctx, service, server, on)
		return d.Server, !errors.Is(err, reconcile.ErrNotRouted) && !errors.Is(err, reconcile.ErrNoServer), err
	}
}

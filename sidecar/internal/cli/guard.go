package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func guardCommand(env Env) *cobra.Command {
	return group("guard", "List and release the servers that the guard holds",
		`List and release the servers that the guard of the running sidecar holds. When
too many servers are lost at once, the guard keeps them in HAProxy, and HAProxy's
own checks decide which of them get traffic. See docs/guard.md.`,
		guardList(env), guardRelease(env))
}

func guardList(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List held servers by service, with the time since when",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s reconcile.State
			if err := askState(cmd, env, &s); err != nil {
				return err
			}
			return failure(printHolds(env.Stdout, holdsOf(s), asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func guardRelease(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "release SERVICE | BACKEND",
		Short: "Remove the held servers of a service from traffic",
		Long: `Remove the servers that the guard holds from traffic, even below min_servers: of a
service, in all its backends, or of one backend. Later losses are evaluated again.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeServices(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r sidecarapi.Released
			err := askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) (err error) {
				r, err = c.Release(cmd.Context(), to, args[0])
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return failure(json.NewEncoder(env.Stdout).Encode(r))
			}
			_, err = fmt.Fprintln(env.Stdout, released(r))
			return failure(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// released is what came of a release, for people.
func released(r sidecarapi.Released) string {
	if len(r.Servers) == 0 {
		return fmt.Sprintf("%s: guard holds no servers of %s", r.LoadBalancer, r.Service)
	}
	return fmt.Sprintf("%s: released servers of %s: %s", r.LoadBalancer, r.Service, strings.Join(r.Servers, ", "))
}

// heldService is one service of which something is held.
type heldService struct {
	Service string `json:"service"`
	Backend string `json:"backend"`
	reconcile.GuardState
}

func holdsOf(s reconcile.State) []heldService {
	out := []heldService{}
	for _, svc := range s.Services {
		if len(svc.Guard.Held) > 0 {
			out = append(out, heldService{svc.Name, svc.Backend, svc.Guard})
		}
	}
	return out
}

func printHolds(w io.Writer, holds []heldService, asJSON bool) error {
	return printList(w, holds, asJSON, "The guard holds no servers.", "SERVICE\tBACKEND\tSINCE\tUNTIL\tSERVERS", func(h heldService) []string {
		until := "-"
		if !h.Until.IsZero() {
			until = h.Until.Format(time.RFC3339)
		}
		return []string{h.Service, h.Backend, h.Since.Format(time.RFC3339), until, strings.Join(h.Held, " ")}
	})
}

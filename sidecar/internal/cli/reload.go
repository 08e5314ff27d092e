package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func reloadCommand(env Env) *cobra.Command {
	var asJSON bool
	wait := time.Minute
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload HAProxy through the running sidecar",
		Long: `Ask the running sidecar to reload HAProxy, for example after a change of your own
haproxy.cfg in include mode, or of a file that it names. The limits of every reload apply:
reload.min_interval, reload.max_old_workers and reload.max_old_workers_memory. The
command waits until a new worker serves, or until HAProxy has refused the file, and
prints HAProxy's message then.

With --wait 0s it returns once the reload is due; "pointsman explain reload" shows what
it waits for. The request ends with the sidecar. SIGHUP to the sidecar reads the settings
again; this command does not.

Exit codes: 0 reloaded, or due with --wait 0s; 1 failed, or not done within --wait;
2 invalid usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 {
				return &exitError{Code: ExitUsage, Err: fmt.Errorf("--wait %s: must not be negative", wait)}
			}
			return requestReload(cmd, env, wait, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", wait, "longest wait until the reload is done; 0s does not wait")
	return cmd
}

// requested is what came of a request, and what `pointsman reload --json` prints.
type requested struct {
	LoadBalancer string `json:"load_balancer"`
	reconcile.ReloadRequest
}

func requestReload(cmd *cobra.Command, env Env, wait time.Duration, asJSON bool) error {
	var is requested
	var waitsFor string
	err := askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error {
		q, err := c.RequestReload(cmd.Context(), to, deployer(env))
		if err != nil {
			return err
		}
		is = requested{q.LoadBalancer, reconcile.ReloadRequest{Number: q.Number, By: q.By, At: q.At, Status: reconcile.RequestStatus(q.Status)}}
		if wait > 0 {
			waitsFor, err = followReload(cmd.Context(), func(s *reconcile.State) error { return c.State(cmd.Context(), to, s) }, &is.ReloadRequest, wait)
		}
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		if err := json.NewEncoder(env.Stdout).Encode(is); err != nil {
			return failure(err)
		}
	}
	switch {
	case is.Status == reconcile.RequestFailed:
		return failure(fmt.Errorf("reload failed: %s", visible(is.Error)))
	case is.Status != reconcile.RequestDone && wait > 0:
		if is.Status == reconcile.RequestUnderWay {
			return failure(fmt.Errorf("not reloaded within %s, still under way", wait))
		}
		return failure(fmt.Errorf("not reloaded within %s, still due; waits for %s", wait, visible(waitsFor)))
	case asJSON:
		return nil
	case is.Status == reconcile.RequestDone:
		_, err = fmt.Fprintf(env.Stdout, "%s: HAProxy reloaded, %s after the request\n", catalog.Printable(is.LoadBalancer), is.Ended.Sub(is.At).Round(time.Millisecond))
	default:
		_, err = fmt.Fprintf(env.Stdout, "%s: reload due\n", catalog.Printable(is.LoadBalancer))
	}
	return failure(err)
}

// errForgotten is of a request that the sidecar does not know any more.
var errForgotten = errors.New("the sidecar has started again and does not know of the request; `pointsman events` shows whether HAProxy was reloaded")

// followReload reads what becomes of a request until it ends, or for wait, and gives what
// it waits for then.
func followReload(ctx context.Context, read func(*reconcile.State) error, is *reconcile.ReloadRequest, wait time.Duration) (waitsFor string, err error) {
	began := time.Now()
	for {
		var s reconcile.State
		if err := read(&s); err != nil {
			return "", err
		}
		i := slices.IndexFunc(s.ReloadRequests, func(q reconcile.ReloadRequest) bool { return q.Number == is.Number && q.At.Equal(is.At) })
		// The answer may be sooner than the state that has the request.
		if took := time.Since(began); i >= 0 {
			*is = s.ReloadRequests[i]
			if is.HasEnded() || took >= wait {
				return waitsForReload(s.Reloads, s.HAProxy, time.Now()), nil
			}
		} else if took >= settleTime {
			return "", errForgotten
		}
		daemon.Sleep(ctx, followPace)
	}
}

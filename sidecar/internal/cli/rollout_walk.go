package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

func rolloutStartCommand(env Env) *cobra.Command {
	var asJSON, isCompared bool
	var stable, canary string
	var steps []int
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "start SERVICE --canary VERSION",
		Short: "Raise a version's share in steps",
		Long: `Raise a version's share in steps; the stable version has the rest. One of the sidecars
moves the rollout; if it stops, another one takes over. While Consul does not answer,
nothing moves.

The sidecar compares errors, retries and response times of the canary with those of
the stable version, on all load balancers. It aborts a canary as soon as that is known
to be worse, or has no server up in three readings in a row.

A step lasts its interval, and longer until the comparison has a result and an instance
of the canary takes traffic. After ten intervals, and ten minutes, the rollout is paused.

An instance of the canary must be registered: start it with share 0, by
"rollout set SERVICE OLD=100 NEW=0".`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFromConsul(env, false, registeredServices),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := errors.Join(named("steps", rollout.CheckSteps(steps)), named("interval", rollout.CheckInterval(interval)), named("canary", rollout.CheckVersion(canary)))
			if err != nil {
				return &exitError{Code: ExitUsage, Err: err}
			}
			cfg, err := loadWithout(cmd, env)
			if err != nil {
				return err
			}
			versions, err := versionsOf(cmd.Context(), cfg, args[0])
			if err != nil {
				return failure(err)
			}
			return changeRollout(cmd, env, args[0], asJSON, false, func(d *rollout.Document, a rollout.Author) (*rollout.Document, error) {
				from, err := stableBeside(versions, canary, stable, d.Serving())
				if err != nil {
					return nil, err
				}
				analysis := rollout.AnalysisOff
				if isCompared {
					analysis = ""
				}
				return d.Start(a, from, canary, steps, interval, analysis)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&canary, "canary", "", "version whose share is raised (required)")
	f.StringVar(&stable, "stable", "", "stable version: it has the rest, and abort goes back to it (default: that of the last rollout or the promoted version, else the only other registered version)")
	f.IntSliceVar(&steps, "steps", []int{5, 25, 50, 100}, "shares of the canary in percent, ascending, the last 100")
	f.DurationVar(&interval, "interval", time.Minute, "shortest duration of a step, 1s to 168h")
	f.BoolVar(&isCompared, "analysis", true, "compare the canary with the stable version by HAProxy's counters; =false: a step ends with its interval")
	f.BoolVar(&asJSON, "json", false, "print the document as JSON")
	return cmd
}

func named(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s: %w", flag, err)
}

// versionsOf returns the versions of a service's instances in Consul, sorted.
func versionsOf(ctx context.Context, cfg config.Config, service string) ([]string, error) {
	reader, err := consul.NewReader(daemon.ConsulOptions(cfg, hclog.NewNullLogger()))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	report, err := reader.Service(ctx, service)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range report.Entries {
		if e.Meta.Version != "" && e.Meta.Leaving.IsZero() && e.Rejected == nil {
			out = append(out, e.Meta.Version)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// stableBeside returns the stable version of a canary: the one that is named, else the one
// of before, else the only other one that is registered.
func stableBeside(versions []string, canary, explicit, before string) (string, error) {
	if !slices.Contains(versions, canary) {
		return "", fmt.Errorf("no instance of version %s is registered", catalog.Printable(canary))
	}
	others := slices.DeleteFunc(slices.Clone(versions), func(v string) bool { return v == canary })
	switch {
	case explicit != "" && !slices.Contains(others, explicit):
		return "", fmt.Errorf("--stable %s: no instance of it is registered beside %s", catalog.Printable(explicit), catalog.Printable(canary))
	case explicit != "":
		return explicit, nil
	case slices.Contains(others, before):
		return before, nil
	case len(others) == 1:
		return others[0], nil
	case len(others) == 0:
		return "", fmt.Errorf("no instance of another version than %s is registered", catalog.Printable(canary))
	}
	return "", fmt.Errorf("which version is the stable one? name it with --stable; registered are %s", catalog.Printable(strings.Join(others, ", ")))
}

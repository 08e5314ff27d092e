package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/agent"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func renderCommand(env Env) *cobra.Command {
	var write, offline bool
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print the haproxy.cfg that Consul and the settings ask for",
		Long: `Print the haproxy.cfg that Consul and the settings ask for, with the servers that
HAProxy runs where it runs. Nothing is changed, but for --write, which validates
the file and puts it in place without a reload.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, env)
			if err != nil {
				return err
			}
			content, err := rendered(cmd.Context(), cfg, offline)
			if err != nil {
				return err
			}
			if write {
				return writeOnce(cmd.Context(), env, cfg, content)
			}
			_, err = env.Stdout.Write(content)
			return failure(err)
		},
	}
	cmd.Flags().BoolVar(&write, "write", false, "validate the file and put it in place")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask neither Consul nor HAProxy: a file without servers")
	return cmd
}

func rendered(ctx context.Context, cfg config.Config, offline bool) ([]byte, error) {
	r, err := newRenderer(cfg)
	if err != nil {
		return nil, &exitError{code: ExitUsage, err: err}
	}
	var snap catalog.Snapshot
	o := plan.Observed{}
	if !offline {
		if snap, err = catalogOnce(ctx, cfg); err != nil {
			return nil, err
		}
		if o, err = observeOnce(ctx, cfg); err != nil {
			return nil, err
		}
		drains, err := newDrains(cfg).Read()
		if err != nil {
			return nil, failure(err)
		}
		o.Drained = agent.Drained(drains, policy(cfg, r))
	}
	p := plan.Compute(plan.Desired{Marker: r.Marker(), Services: policy(cfg, r), Rotation: inRotation(cfg)}, o, snap)
	content, err := r.Render(p.File)
	return content, failure(err)
}

func writeOnce(ctx context.Context, env Env, cfg config.Config, content []byte) error {
	file, err := newFile(cfg)
	if err != nil {
		return &exitError{code: ExitUsage, err: err}
	}
	changed, err := file.Write(ctx, content)
	if err != nil {
		return failure(err)
	}
	what := "already holds this"
	if changed {
		what = "written"
	}
	_, err = fmt.Fprintf(env.Stderr, "%s: %s\n", file.Path(), what)
	return failure(err)
}

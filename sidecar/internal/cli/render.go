package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
)

func renderCommand(env Env) *cobra.Command {
	var write, offline, adopt bool
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print the haproxy.cfg for the current settings and Consul's instances",
		Long: `Print the haproxy.cfg for the current settings, Consul's instances and, if HAProxy
runs, its servers. Changes nothing unless --write is given, which validates the
file and replaces haproxy.cfg without a reload. A haproxy.cfg that Pointsman did
not write is replaced only with --adopt.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadWhole(cmd, env)
			if err != nil {
				return err
			}
			if write {
				err := daemon.MayWrite(cfg, adopt)
				if err == nil {
					err = daemon.SeedCertificates(cmd.Context(), cfg)
				}
				if err != nil {
					return &exitError{Code: ExitUsage, Err: err}
				}
			}
			content, err := daemon.RenderedOnce(cmd.Context(), cfg, offline)
			if err != nil {
				return failure(err)
			}
			if write {
				return writeOnce(cmd.Context(), env, cfg, content)
			}
			_, err = env.Stdout.Write(content)
			return failure(err)
		},
	}
	cmd.Flags().BoolVar(&write, "write", false, "validate the file and replace haproxy.cfg")
	adoptFlag(cmd, &adopt)
	cmd.Flags().BoolVar(&offline, "offline", false, "do not query Consul or HAProxy; the file has no servers")
	return cmd
}

func writeOnce(ctx context.Context, env Env, cfg config.Config, content []byte) error {
	file, err := daemon.NewFile(cfg)
	if err != nil {
		return &exitError{Code: ExitUsage, Err: err}
	}
	changed, err := file.Write(ctx, content)
	if err != nil {
		return failure(err)
	}
	what := "unchanged"
	if changed {
		what = "written"
	}
	_, err = fmt.Fprintf(env.Stderr, "%s: %s\n", file.Path(), what)
	return failure(err)
}

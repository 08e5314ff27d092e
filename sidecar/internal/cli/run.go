package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
)

func runCommand(env Env) *cobra.Command {
	var adopt bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the sidecar until a signal stops it",
		Long: `Run the sidecar until a signal stops it. SIGTERM and SIGINT stop the sidecar
and leave HAProxy unchanged; HAProxy keeps running. A second signal exits
immediately. SIGHUP reloads the settings; invalid settings are logged and the
current ones stay active.

A haproxy.cfg or a running HAProxy that serves what Pointsman did not write is
taken over only with --adopt. Without it, run lists the frontends and backends
that would go away, and exits with 2. A HAProxy that runs the haproxy.cfg of
another sidecar is refused in the same way; while that sidecar is found running,
it is refused with --adopt, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, env)
			if err != nil {
				return err
			}
			if passed := passedOver(env); passed != "" {
				daemon.NewLogger(cfg, env.Stderr).Warn("container platform's environment variables ignored", "variables", passed)
			}
			d, err := daemon.New(cmd.Context(), cfg, daemon.Options{
				Adopt: adopt, Environ: env.Environ, Log: env.Stderr, Version: env.Version, Exit: os.Exit,
				Reload: func() (config.Config, error) { return load(cmd, env) },
			})
			if err == nil {
				err = d.MayStart(cmd.Context())
			}
			if err != nil {
				return &exitError{Code: ExitUsage, Err: err}
			}
			return failure(d.Run(cmd.Context()))
		},
	}
	adoptFlag(cmd, &adopt)
	return cmd
}

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func checkCommand(env Env) *cobra.Command {
	var asJSON, adopt, offline bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings, the template, Consul and HAProxy's sockets",
		Long: `Check that the settings are valid, that HAProxy accepts the configuration made
from the template, that Consul answers for every service, and that HAProxy's
sockets work. A haproxy.cfg or a running HAProxy that serves what Pointsman
did not write is refused, with the frontends and backends that would go away;
--adopt accepts that. With --offline Consul and HAProxy do not have to run, and
haproxy.cfg does not have to be writable: use it in CI to check settings and template.
Changes nothing. Exit codes: 0 all checks passed, 1 a check failed,
2 invalid settings.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, env)
			if err != nil {
				return err
			}
			findings := daemon.RunChecks(cmd.Context(), cfg, adopt, offline)
			if !offline {
				findings = append(findings, checkReload(cmd, env)...)
			}
			if err := printFindings(env, findings, asJSON, cfg); err != nil {
				return failure(err)
			}
			for _, f := range findings {
				if !f.OK {
					return &exitError{Code: ExitFailure}
				}
			}
			return nil
		},
	}
	adoptFlag(cmd, &adopt)
	cmd.Flags().BoolVar(&offline, "offline", false, "check only settings, template and the rendered file, without Consul and a running HAProxy")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with all effective settings and masked secrets")
	return cmd
}

// checkReload notes the reload that is due, if a sidecar runs. It is no failure: the running
// sidecar makes it.
func checkReload(cmd *cobra.Command, env Env) (notes []daemon.Finding) {
	var s daemon.JudgedState
	if askState(cmd, env, &s) != nil || s.State == nil {
		return nil
	}
	return reloadNote(s.Reloads)
}

func reloadNote(r reconcile.ReloadState) []daemon.Finding {
	if r.Pending == "" {
		return nil
	}
	lines := []string{fmt.Sprintf("due, %s: %s", r.Pending, reloadReason(r.Pending))}
	for _, c := range r.For {
		lines = append(lines, fmt.Sprintf("backend %s, not at runtime: %s", c.Backend, c.Why))
	}
	if r.Error != "" {
		lines = append(lines, "the last one failed: "+r.Error)
	}
	return []daemon.Finding{{Check: "reload", OK: true, Note: visibleLines([]byte(strings.Join(lines, "\n")))}}
}

func printFindings(env Env, findings []daemon.Finding, asJSON bool, cfg config.Config) error {
	if asJSON {
		return printJSON(env.Stdout, map[string]any{"checks": findings, "settings": cfg})
	}
	for _, f := range findings {
		mark, rest := "ok  ", f.Note
		if !f.OK {
			mark, rest = "FAIL", f.Error
		}
		rest = strings.ReplaceAll(rest, "\n", "\n"+strings.Repeat(" ", 19))
		if _, err := fmt.Fprintf(env.Stdout, "%s  %-12s %s\n", mark, f.Check, rest); err != nil {
			return err
		}
	}
	return nil
}

// adoptFlag adds the flag by which an operator agrees to a takeover.
func adoptFlag(cmd *cobra.Command, adopt *bool) {
	cmd.Flags().BoolVar(adopt, "adopt", false, "take over a haproxy.cfg or a running HAProxy that Pointsman did not write, or that another sidecar has written")
}

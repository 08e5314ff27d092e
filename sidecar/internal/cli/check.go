package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// finding is the outcome of one check.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Note  string `json:"note,omitempty"`
}

func checkCommand(env Env) *cobra.Command {
	var asJSON, offline bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings, the template, Consul and HAProxy's sockets",
		Long: `Check that the settings can be read, that HAProxy finds the file valid that they
and the template make, that Consul answers for every service, and that HAProxy's
sockets can be used. With --offline neither Consul nor HAProxy need run, and
haproxy.cfg need not be writable: CI can check settings and template with it.
Nothing is changed. Exits with 0 if all is well, 1 if something is not, 2 if the
settings are wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, env)
			if err != nil {
				return err
			}
			findings := runChecks(cmd.Context(), cfg, offline)
			if err := printFindings(env, findings, asJSON, cfg); err != nil {
				return failure(err)
			}
			for _, f := range findings {
				if !f.OK {
					return &exitError{code: ExitFailure}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "ask neither Consul nor HAProxy: settings, template and the file that they make")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the settings as they are in force and secrets masked")
	return cmd
}

func runChecks(ctx context.Context, cfg config.Config, offline bool) []finding {
	findings := []finding{{Check: "settings", OK: true, Note: cfg.File}}
	add := func(check, note string, err error) {
		f := finding{Check: check, OK: err == nil, Note: note}
		if err != nil {
			f.Error = err.Error()
		}
		findings = append(findings, f)
	}
	add("template", cfg.HAProxy.Template, checkTemplate(ctx, cfg))
	if offline {
		return findings
	}
	add("haproxy.cfg", cfg.HAProxy.Config, checkDirectory(cfg.HAProxy.Config))
	snap, err := catalogOnce(ctx, cfg)
	add("consul", cfg.Consul.Address, err)
	for _, s := range cfg.Services {
		if want := snap.Service(s.Name); err == nil && len(want.Instances) == 0 {
			add("service", fmt.Sprintf("%s: %s", s.Name, noInstance(len(want.Rejected))), nil)
		}
	}
	p, err := newProxy(cfg, hclog.NewNullLogger(), nil)
	if err == nil {
		err = p.Probe(ctx)
	}
	note := cfg.HAProxy.Socket
	if errors.Is(err, plan.ErrNotRunning) {
		note += " (the sidecar will wait for HAProxy)"
	}
	add("haproxy", note, err)
	return findings
}

// noInstance says what there is of a service without instances.
func noInstance(leftOut int) string {
	if leftOut > 0 {
		return fmt.Sprintf("no instance can be used, %d are left out (rejected in /api/v1/state)", leftOut)
	}
	return "Consul lists no instance: are its name, tags and filter right?"
}

// checkTemplate renders a file without servers and lets HAProxy look at it.
func checkTemplate(ctx context.Context, cfg config.Config) error {
	content, err := rendered(ctx, cfg, true)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pointsman-check-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	cfg.HAProxy.Config = filepath.Join(dir, filepath.Base(cfg.HAProxy.Config))
	file, err := newFile(cfg)
	if err != nil {
		return err
	}
	_, err = file.Write(ctx, content)
	return err
}

// checkDirectory tries to write beside haproxy.cfg, as a new file will be.
func checkDirectory(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pointsman-check-")
	if err != nil {
		return fmt.Errorf("cannot write beside %s: %w", path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func printFindings(env Env, findings []finding, asJSON bool, cfg config.Config) error {
	if asJSON {
		e := json.NewEncoder(env.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"checks": findings, "settings": cfg})
	}
	for _, f := range findings {
		mark, rest := "ok  ", f.Note
		if !f.OK {
			mark, rest = "FAIL", f.Error
		}
		if _, err := fmt.Fprintf(env.Stdout, "%s  %-12s %s\n", mark, f.Check, rest); err != nil {
			return err
		}
	}
	return nil
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
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
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings, the template, Consul and HAProxy's sockets",
		Long: `Check that the settings are valid, that HAProxy accepts the configuration made
from the template, that Consul answers for every service, and that HAProxy's
sockets work. Changes nothing. Exit codes: 0 all checks passed, 1 a check failed,
2 invalid settings.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, env)
			if err != nil {
				return err
			}
			findings := runChecks(cmd.Context(), cfg)
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with all effective settings and masked secrets")
	return cmd
}

func runChecks(ctx context.Context, cfg config.Config) []finding {
	findings := []finding{{Check: "settings", OK: true, Note: cfg.File}}
	add := func(check, note string, err error) {
		f := finding{Check: check, OK: err == nil, Note: note}
		if err != nil {
			f.Error = err.Error()
		}
		findings = append(findings, f)
	}
	add("template", cfg.HAProxy.Template, checkTemplate(ctx, cfg))
	add("haproxy.cfg", cfg.HAProxy.Config, checkDirectory(cfg.HAProxy.Config))
	snap, err := catalogOnce(ctx, cfg)
	add("consul", cfg.Consul.Address, err)
	for _, s := range snap.Services() {
		for _, r := range s.Rejected { // no failure: the others are used
			add("instance", fmt.Sprintf("%s: %s on %s is left out: %s", s.Name, catalog.Printable(r.ID), catalog.Printable(r.Node), strings.ReplaceAll(r.Err.Error(), "\n", "; ")), nil)
		}
	}
	p, err := newProxy(cfg, hclog.NewNullLogger(), nil)
	if err == nil {
		err = p.Probe(ctx)
	}
	note := cfg.HAProxy.Socket
	if errors.Is(err, plan.ErrNotRunning) {
		note += " (sidecar run waits for HAProxy)"
	}
	add("haproxy", note, err)
	return findings
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
		return fmt.Errorf("create a file in the directory of %s: %w", path, err)
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

// Package cli is the command line of the sidecar: its commands and its exit codes.
// Nothing below it reads arguments or the environment. What runs is in daemon; a command
// asks the running sidecar, or looks with daemon's parts.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/internal/process"
	"github.com/pointsman/pointsman/registrator/platform"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Exit codes of the sidecar.
const (
	ExitOK      = 0
	ExitFailure = 1 // it could not do what it was asked for
	ExitUsage   = 2 // arguments or settings are wrong; nothing was done
	ExitChanges = 3 // `plan --exit-code`: there is something to do; `status`: something is under way
	ExitHalfway = 4 // `deploy`: it failed after old instances were stopped, or new ones may run still

	ExitDegraded    = 5 // `status`: an operator should look
	ExitNotRunning  = 6 // `status`: HAProxy does not run, or cannot be read
	ExitUnreachable = 7 // `status`: the sidecar cannot be asked
	ExitLocked      = 8 // `deploy`: another deployment of the service is under way
	// 128+n: ended at once by a second signal n; for deploy, by the first.
)

// Env is what a process gets from outside.
type Env struct {
	Args           []string // without the program's name
	Environ        []string
	Hostname       string
	Stdout, Stderr io.Writer
	Version        string
}

// Main runs the sidecar with the process's own Env and gives its exit code.
func Main(version string) int {
	return Run(context.Background(), Env{
		Args: os.Args[1:], Environ: os.Environ(), Hostname: daemon.Host(),
		Stdout: os.Stdout, Stderr: os.Stderr, Version: version,
	})
}

// Run runs one command line and gives its exit code. It ends early when ctx
// does.
func Run(ctx context.Context, env Env) int {
	root := newRoot(env) //nolint:contextcheck // cobra hands each command its context
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	coded, ok := errors.AsType[*exitError](err)
	if !ok {
		// Cobra's own: an unknown command or flag.
		coded = &exitError{Code: ExitUsage, Err: err}
	}
	if coded.Err != nil {
		printError(env.Stderr, coded.Err)
	}
	return coded.Code
}

type exitError = process.ExitError

// failure gives an error its exit code.
func failure(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*daemon.SettingsError](err); ok {
		return &exitError{Code: ExitUsage, Err: err}
	}
	return &exitError{Code: ExitFailure, Err: err}
}

// printError prints each line of an error: joined errors have one each.
func printError(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(w, "pointsman:", strings.TrimRight(line, "\n")) // a broken stderr has no reader
	}
}

func newRoot(env Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "pointsman",
		Short: "Keep HAProxy in step with Consul and deploy without failed requests",
		Long: `The sidecar runs next to one HAProxy. It watches services in Consul and changes
HAProxy over its runtime socket. Only changes that the runtime socket does not
support need a seamless reload with a new haproxy.cfg.

Every setting has a key in the settings file and a variable; a few have a flag, too:
docs/configuration.md lists them.

Exit codes: 0 done, 1 failed, 2 invalid arguments or settings,
3 changes pending (plan --exit-code) or under way (status), 4 partially deployed
(deploy), 5 degraded, 6 HAProxy does not run, 7 sidecar not reached (status), 8 another
deployment is under way (deploy) or the rollout or pause was changed meanwhile (rollout,
pause), 128+n ended by a second signal n (deploy: by the first).`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(env.Args)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	config.RegisterFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(unknownFlag)
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if passed := passedOver(env); passed != "" && cmd.Name() != "run" { // which logs it
			_, _ = fmt.Fprintf(env.Stderr, "pointsman: container platform's environment variables ignored: %s\n", passed)
		}
	}
	root.AddCommand(runCommand(env), statusCommand(env), explainCommand(env), eventsCommand(env), recordCommand(env), replayCommand(env), renderCommand(env), planCommand(env), checkCommand(env), maintenanceCommand(env), guardCommand(env), drainCommand(env), readyCommand(env), reloadCommand(env), pauseCommand(env), resumeCommand(env), deployCommand(env), rolloutCommand(env), initCommand(env), versionCommand(env))
	return root
}

// unknownFlag adds to the error of an unknown flag what was probably meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(unknown.GetSpecifiedName()) < 2 { // a shorthand
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	return fmt.Errorf("%w%s", err, config.FlagHint(unknown.GetSpecifiedName(), known))
}

// load reads the settings for a command.
func load(cmd *cobra.Command, env Env) (config.Config, error) { return loadFrom(sources(cmd, env)) }

// loadWithout reads the settings for a command that needs no services.
func loadWithout(cmd *cobra.Command, env Env) (config.Config, error) {
	from := sources(cmd, env)
	from.NoServices = true
	return loadFrom(from)
}

func loadFrom(from config.Sources) (config.Config, error) {
	cfg, err := config.Load(from)
	if err != nil {
		return config.Config{}, &exitError{Code: ExitUsage, Err: err}
	}
	return cfg, nil
}

// loadWhole is load, with what the sidecar has found in Consul according to haproxy.cfg.
func loadWhole(cmd *cobra.Command, env Env) (config.Config, error) {
	cfg, err := load(cmd, env)
	if err != nil {
		return cfg, err
	}
	cfg = daemon.WithTaken(cfg)
	return cfg.With(daemon.SavedFound(cfg)), nil
}

func sources(cmd *cobra.Command, env Env) config.Sources {
	environ, _ := platform.Split(env.Environ, config.EnvPrefix)
	return config.Sources{
		Flags: cmd.Flags(), Environ: environ, IgnoredEnv: ignoredEnv(), ReadFile: os.ReadFile, Hostname: env.Hostname,
	}
}

// passedOver names the variables that a container platform has set for a service
// of its own with a name like ours; "" for none.
func passedOver(env Env) string {
	_, taken := platform.Split(env.Environ, config.EnvPrefix)
	return strings.Join(taken, ", ")
}

// ignoredEnv are the variables that begin like settings and are none: HAProxy's own,
// for a sidecar that HAProxy starts.
func ignoredEnv() []string { return []string{plan.MarkerVariable, plan.OwnerVariable} }

func versionCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.Stdout, "pointsman", env.Version)
			return failure(err)
		},
	}
}

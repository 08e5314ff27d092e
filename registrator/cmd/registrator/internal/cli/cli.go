// Package cli is the command line of registrator: its commands, their
// settings, the exit codes, and the only place where the parts are put
// together.
//
// Its invariant: nothing is started or registered before all settings were
// found good, and each bad one is named with its key and value.
//
// Only main imports it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/internal/process"
)

// Process is what a program gets from outside. Standard input, output and
// error of the process itself are what a wrapped program inherits.
type Process struct {
	Args           []string // without the program's name
	Environ        []string // key=value
	Stdout, Stderr io.Writer
	Version        string
}

// Exit codes of registrator, which are its own where the wrapped program has
// none: those of env(1) and timeout(1).
const (
	ExitUsage       = 2   // arguments or settings are wrong; nothing was done
	ExitFailed      = 125 // the wrapper stopped the program: it was never ready, or Consul refuses it
	ExitNotExecuted = 126 // the program is there and can't be executed
	ExitNotFound    = 127 // there is no such program
	// 128+n: signal n ended the program; or a second signal n ended all at once.
)

type exitError = process.ExitError

func usage(err error) error { return &exitError{Code: ExitUsage, Err: err} }

// Run runs one command line and gives its exit code.
func Run(ctx context.Context, p Process) int {
	err := newRoot(ctx, p).Execute()
	if err == nil {
		return 0
	}
	coded, ok := errors.AsType[*exitError](err)
	if !ok {
		coded = &exitError{Code: ExitUsage, Err: err} // cobra's own: an unknown command
	}
	if coded.Err != nil {
		printError(p.Stderr, coded.Err)
	}
	if coded.Code == ExitUsage {
		fmt.Fprintln(p.Stderr, "Try 'registrator run --help'.")
	}
	return coded.Code
}

// printError prints one line for each of several errors.
func printError(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		// The library begins its errors by the same name.
		fmt.Fprintln(w, "registrator:", strings.TrimPrefix(line, "registrator: "))
	}
}

func newRoot(ctx context.Context, p Process) *cobra.Command {
	root := &cobra.Command{
		Use:   "registrator",
		Short: "Register any program in Consul and stop it without failed requests",
		Long: `The registrator starts a program and registers it in Consul while it serves. On
SIGTERM it first waits until every load balancer has drained the program.

  registrator run --service api --port 4000 --check http:/healthz -- ./program`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(runCommand(ctx, p), versionCommand(p))
	return root
}

func versionCommand(p Process) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := fmt.Fprintln(p.Stdout, "pointsman registrator", p.Version); err != nil {
				return &exitError{Code: 1, Err: err}
			}
			return nil
		},
	}
}

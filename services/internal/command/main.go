package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/internal/envflag"
	"github.com/pointsman/pointsman/internal/process"
)

// Process is what a program gets from the operating system.
type Process struct {
	Args           []string // without the program's name
	Environ        []string // key=value
	Stdout, Stderr io.Writer
	Exit           func(code int) // ends the process at once
}

// Main runs a command that takes flags only, and gives the exit code. Every
// flag is settable by an environment variable with the prefix, and its help
// says so. The context of run ends as process.Signals says. An error goes to Stderr,
// except ErrFailed.
func Main(ctx context.Context, p Process, prefix string, cmd *cobra.Command, run func(context.Context) error) int {
	ctx, release := process.Signals(ctx, p.Exit)
	defer release()
	cmd.RunE = func(*cobra.Command, []string) error { return run(ctx) }
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.DisableAutoGenTag = true
	cmd.SetArgs(p.Args)
	cmd.SetOut(p.Stdout)
	cmd.SetErr(p.Stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return Usage(fmt.Errorf("argument %q: only flags are taken", args[0]))
		}
		return nil
	}
	cmd.PreRunE = func(c *cobra.Command, _ []string) error {
		if err := envflag.Set(c.Flags(), prefix, p.Environ); err != nil {
			return Usage(err)
		}
		return nil
	}
	cmd.Flags().SortFlags = false // in the order in which they are explained
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage += " [" + envflag.Variable(prefix, f) + "]" })

	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	coded, ok := errors.AsType[*process.ExitError](err)
	if !ok {
		coded = &process.ExitError{Code: ExitFailed, Err: err}
	}
	if coded.Err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "%s: %v\n", cmd.Name(), err) // a broken stderr has no reader
	}
	if coded.Code == ExitUsage {
		_, _ = fmt.Fprintf(p.Stderr, "Try '%s --help'.\n", cmd.Name())
	}
	return coded.Code
}

package command

import "github.com/pointsman/pointsman/internal/process"

// The exit codes of the services. A program that a second signal ends exits
// with 128 plus the signal's number, as a shell reports it.
const (
	ExitOK     = 0
	ExitFailed = 1 // it ran and failed; the client: a request failed
	ExitUsage  = 2 // a setting is unknown or malformed; nothing was done
)

// Usage returns an error that says that the command line or the environment is at fault.
func Usage(err error) error { return &process.ExitError{Code: ExitUsage, Err: err} }

// ErrFailed ends a program with ExitFailed and without a message, because all
// has been said.
var ErrFailed error = &process.ExitError{Code: ExitFailed}

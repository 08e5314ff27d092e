package command

import "errors"

// The exit codes of the services. A program that a second signal ends exits
// with 128 plus the signal's number, as a shell reports it.
const (
	ExitOK     = 0
	ExitFailed = 1 // it ran and failed; the client: a request failed
	ExitUsage  = 2 // a setting is unknown or malformed; nothing was done
)

// UsageError says that the command line or the environment is at fault.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the error that says what is wrong.
func (e UsageError) Unwrap() error { return e.Err }

// ErrFailed ends a program with ExitFailed and without a message, because all
// has been said.
var ErrFailed = errors.New("failed")

func exitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if _, usage := errors.AsType[UsageError](err); usage {
		return ExitUsage
	}
	return ExitFailed
}

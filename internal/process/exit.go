// Package process is what the programs of both halves share as processes: what a signal
// does, and the exit code.
//
// It is a leaf: it imports nothing of this project.
package process

import "fmt"

// ExitError is an error with the exit code that it leads to. Err may be nil where
// everything has been said.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the error that says what is wrong.
func (e *ExitError) Unwrap() error { return e.Err }

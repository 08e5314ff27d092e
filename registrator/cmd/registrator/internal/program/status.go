package program

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Status is how a program ended.
type Status struct {
	Exit   int            // its exit code, unless a signal ended it
	Signal syscall.Signal // the signal that ended it, or 0
}

// Code is the exit code as a shell reports it: the program's, or 128 plus the
// number of the signal that ended it.
func (s Status) Code() int {
	if s.Signal != 0 {
		return SignalCode(s.Signal)
	}
	return s.Exit
}

func (s Status) String() string {
	if s.Signal != 0 {
		return SignalName(s.Signal)
	}
	return fmt.Sprintf("exit code %d", s.Exit)
}

// SignalCode is the exit code that stands for an end by the signal.
func SignalCode(s syscall.Signal) int { return 128 + int(s) }

// SignalName is the signal's name, as SIGTERM.
func SignalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

//go:build unix && !linux

package program

import (
	"errors"
	"syscall"
)

func adoptOrphans() error { return errors.New("only Linux can, unless as PID 1") }

// signalOrphan does nothing: only Linux tells a child of its parent's end.
func signalOrphan(*syscall.SysProcAttr, syscall.Signal) {}

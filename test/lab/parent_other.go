//go:build !linux

package lab

import "syscall"

// WithParent changes nothing: there is no such thing here.
func WithParent(a *syscall.SysProcAttr) *syscall.SysProcAttr { return a }

//go:build !linux

package consultest

import "syscall"

func endWithParent() *syscall.SysProcAttr { return nil }

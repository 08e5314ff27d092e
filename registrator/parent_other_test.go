//go:build !linux

package registrator_test

import "syscall"

func endWithParent() *syscall.SysProcAttr { return nil }

//go:build !linux

package haproxytest

import "syscall"

func ownNetwork(*syscall.SysProcAttr) {}

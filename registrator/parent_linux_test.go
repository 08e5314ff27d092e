package registrator_test

import "syscall"

// endWithParent lets the kernel end the process with the thread that started it.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

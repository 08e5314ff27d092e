package consultest

import "syscall"

// endWithParent lets the kernel end the process with the thread that started
// it, so that a test binary that is killed leaves nothing behind.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

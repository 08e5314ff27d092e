package lab

import "syscall"

// WithParent makes a process end with the thread that starts it (prctl(2),
// PR_SET_PDEATHSIG), so that who is killed leaves nothing behind.
func WithParent(a *syscall.SysProcAttr) *syscall.SysProcAttr {
	a.Pdeathsig = syscall.SIGKILL
	return a
}

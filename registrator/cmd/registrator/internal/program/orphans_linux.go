package program

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes us the parent of those below us that lose theirs. It holds
// for the whole process, and is not inherited (prctl(2), PR_SET_CHILD_SUBREAPER).
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// signalOrphan lets the kernel send the signal to the program when we end. The
// kernel forgets it if the program is set-user-ID or has file capabilities.
func signalOrphan(sys *syscall.SysProcAttr, s syscall.Signal) { sys.Pdeathsig = s }

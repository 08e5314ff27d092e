package wrapper

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/program"
)

// Handled are the signals that Run wants to get. If the program is in our
// group (sameGroup), the terminal's go to both of us, and are not passed on.
func Handled(sameGroup bool) []os.Signal {
	handled := []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		// Not passed on. Without it the end of a pipe that takes our log would
		// be our end; to ignore it would be passed on to the program.
		syscall.SIGPIPE,
	}
	if sameGroup {
		return handled
	}
	return append(handled, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT)
}

// signalled acts on a signal. The error, if there is one, is the end.
func (l *life) signalled(ctx context.Context, got os.Signal) error {
	switch s := asSignal(got); s {
	case syscall.SIGTERM, syscall.SIGINT:
		if l.told {
			l.Logger.Warn("second signal, killing program", "signal", program.SignalName(s))
			if err := l.kill(); err != nil {
				l.Logger.Error("kill the program", "error", err)
			}
			return Killed{s}
		}
		l.told = true
		l.leave(ctx, program.SignalName(s))
	case syscall.SIGPIPE:
	case syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGWINCH:
		// The terminal sends these to a whole job.
		l.pass(l.program.SignalGroup, s)
	default:
		l.pass(l.program.Signal, s)
	}
	return nil
}

func (l *life) pass(send func(syscall.Signal) error, s syscall.Signal) {
	l.Logger.Debug("forwarding signal", "signal", program.SignalName(s))
	if err := send(s); err != nil {
		l.Logger.Warn("signal forwarding failed", "error", err)
	}
}

// continueAfter is how long a program that is to end stays stopped.
const continueAfter = 20 * time.Millisecond

// stopped: the program was stopped.
func (l *life) stopped(by syscall.Signal) {
	switch by {
	case syscall.SIGTTIN, syscall.SIGTTOU:
		l.Logger.Warn("program suspended by terminal access, use --foreground", "signal", program.SignalName(by))
	default:
		l.Logger.Info("program suspended", "signal", program.SignalName(by))
	}
	if l.leaving {
		// It may read the terminal again before it hears of its end. The pause
		// keeps two that insist from filling the time with it.
		time.AfterFunc(continueAfter, func() { l.pass(l.program.Signal, syscall.SIGCONT) })
	}
	// Ctrl-Z: the shell takes the terminal back once we stop too, and wakes us
	// by SIGCONT, which is passed on.
	if by == syscall.SIGTSTP && hasShell() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // to ourselves it is always allowed
	}
}

// hasShell reports whether our parent may be a shell that wakes those that it
// sees stopped: it is one of our session. The kernel asks the same before it
// stops a process by SIGTSTP (setpgid(2), orphaned process groups).
func hasShell() bool {
	parent := os.Getppid()
	if parent <= 1 {
		return false // we are PID 1, or our parent has gone
	}
	ours, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	theirs, err := unix.Getsid(parent)
	return err == nil && theirs == ours
}

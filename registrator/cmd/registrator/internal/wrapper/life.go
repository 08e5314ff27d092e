package wrapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/program"
)

// life is one run of one program. Its fields belong to the goroutine of run,
// except the channels, and what never changes.
type life struct {
	Config
	program *program.Program
	asked   <-chan struct{} // closed when it is to leave, as by a signal; nil from then on

	stopProbing func()
	up          chan error    // gets one: nil once it is registered, or why it never will be
	done        chan struct{} // closed after that
	left        chan error    // gets one: Leave's

	told     bool // it was told to stop: the second time is the end
	leaving  bool
	cutShort context.CancelCauseFunc // of what Leave waits for; nil before
	failure  error                   // why it leaves although it was not told to
}

var errEnded = errors.New("program ended")

// beUp waits until the program is ready, and registers it.
func (l *life) beUp(ctx context.Context) {
	probing, stop := context.WithCancel(ctx)
	l.stopProbing = stop
	go func() {
		defer close(l.done)
		defer stop()
		err := l.awaitReady(probing)
		if err == nil {
			// Not with probing: a registration on its way must not be cut off,
			// for it might reach Consul after what takes it away. Leave ends it.
			err = l.Registration.Register(ctx)
		}
		l.up <- err
	}()
}

func (l *life) awaitReady(ctx context.Context) error {
	if l.ReadyTimeout > 0 {
		late := fmt.Errorf("%w within %v", ErrNeverReady, l.ReadyTimeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.ReadyTimeout, late)
		defer cancel()
	}
	was := ""
	for {
		if err := l.Ready(ctx); err != nil || l.Other == nil {
			return err
		}
		other := l.Other(l.program.PID())
		if other == "" {
			return nil
		}
		if other != was {
			l.Logger.Warn("port used by another process, not registering", "listener", other)
		}
		was = other
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: another process listens on the port: %s", context.Cause(ctx), other)
		case <-time.After(otherPause):
		}
	}
}

// otherPause is between two looks at who listens.
const otherPause = 500 * time.Millisecond

// run goes through what happens, one thing after the other, until the program
// has ended and has left.
func (l *life) run(ctx context.Context) (program.Status, error) {
	ended := l.program.Done()
	for {
		select {
		case <-l.asked:
			l.asked, l.told = nil, true
			l.leave(ctx, "signal")
		case s := <-l.Signals:
			if err := l.signalled(ctx, s); err != nil {
				return l.program.Status(), err
			}
		case s := <-l.program.Stopped():
			l.stopped(s)
		case err := <-l.up:
			l.isUp(ctx, err)
		case <-ended:
			ended = nil
			l.hasEnded(ctx)
		case err := <-l.left:
			if ended != nil && l.hasDone() {
				l.hasEnded(ctx)
			}
			return l.hasLeft(err), l.failure
		}
	}
}

// isUp: the program is registered, or never will be.
func (l *life) isUp(ctx context.Context, err error) {
	if err == nil || l.leaving {
		return // the registration has logged the one, and leaving is why of the other
	}
	l.failure = err
	l.leave(ctx, "registration failed")
}

// hasEnded: by itself, or because it was told to.
func (l *life) hasEnded(ctx context.Context) {
	if l.leaving {
		l.Logger.Info("program ended", "status", l.program.Status())
	} else {
		l.Logger.Warn("program ended unexpectedly", "status", l.program.Status())
		l.leave(ctx, "")
	}
	l.cutShort(errEnded) // there is nothing to drain any more
}

// leave begins the end, once. why is empty if it has been logged.
func (l *life) leave(ctx context.Context, why string) {
	if l.leaving {
		return
	}
	l.leaving = true
	l.stopProbing()
	if why != "" {
		l.Logger.Info("leaving", "cause", why)
	}
	ctx, cut := context.WithCancelCause(ctx)
	l.cutShort = cut
	if l.hasDone() {
		cut(errEnded)
	}
	go func() { l.left <- l.Registration.Leave(ctx, l.stop) }()
}

// hasLeft: Leave has returned, and so stop has.
func (l *life) hasLeft(err error) program.Status {
	defer l.cutShort(nil)
	if err = without(err, errEnded); err != nil {
		l.Logger.Warn("graceful shutdown incomplete", "error", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if !l.hasDone() {
		return program.Status{Signal: syscall.SIGKILL} // sent, and still to work
	}
	return l.program.Status()
}

func (l *life) hasDone() bool {
	select {
	case <-l.program.Done():
		return true
	default:
		return false
	}
}

// without takes those errors out of joined ones that come from the cause: what
// was cut short on purpose has not failed.
func without(err, cause error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if errors.Is(err, cause) {
			return nil
		}
		return err
	}
	var rest []error
	for _, e := range joined.Unwrap() {
		if !errors.Is(e, cause) {
			rest = append(rest, e)
		}
	}
	return errors.Join(rest...)
}

// stop ends the program: by Stop, and by SIGKILL if it takes longer than
// StopTimeout. It is Leave's; ctx ends only when the program has.
func (l *life) stop(context.Context) error {
	// A stopped program hears of its end only when it goes on.
	err := errors.Join(l.program.Signal(l.Stop), l.program.Signal(syscall.SIGCONT))
	if l.endsWithin(l.StopTimeout) {
		return err
	}
	l.Logger.Warn("stop timeout, killing program", "signal", program.SignalName(l.Stop), "stop_timeout", l.StopTimeout)
	return errors.Join(err, l.kill())
}

// kill ends the program and what it started in its group.
func (l *life) kill() error {
	err := l.program.SignalGroup(syscall.SIGKILL)
	if !l.endsWithin(killLimit) {
		err = errors.Join(err, fmt.Errorf("pid %d has not ended %v after SIGKILL", l.program.PID(), killLimit))
	}
	return err
}

func (l *life) endsWithin(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-l.program.Done():
		return true
	case <-t.C:
		return false
	}
}

func asSignal(s os.Signal) syscall.Signal {
	number, _ := s.(syscall.Signal) // it always is one
	return number
}

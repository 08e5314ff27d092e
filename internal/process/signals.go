package process

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Signalled is the cause of a context that a signal has cancelled.
type Signalled struct{ Signal syscall.Signal }

func (s Signalled) Error() string { return "got " + signalName(s.Signal) }

// Signals returns a context that the first SIGTERM or SIGINT cancels, with
// Signalled as its cause. The second one ends the process at once by calling
// exit with 128 plus the signal's number: the sender no longer wants to
// wait. Call release when no signal matters any more.
func Signals(ctx context.Context, exit func(code int)) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	received := make(chan os.Signal, 2) // both, should they come before the goroutine runs
	released := make(chan struct{})
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for count := 1; ; count++ {
			select {
			case s := <-received:
				number, _ := s.(syscall.Signal) // always one: Notify was given no others
				if count > 1 {
					exit(128 + int(number))
					return
				}
				cancel(Signalled{number})
			case <-released:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(received)
		close(released)
		cancel(nil)
	}
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	default:
		return fmt.Sprintf("signal %d", int(s))
	}
}

package process_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/pointsman/pointsman/internal/process"
)

func TestFirstSignalCancelsAndSecondExits(t *testing.T) {
	exited := make(chan int, 1)
	ctx, release := process.Signals(t.Context(), func(code int) { exited <- code })
	defer release()

	raise(t, syscall.SIGTERM)
	<-ctx.Done()
	if got, want := context.Cause(ctx).Error(), "got SIGTERM"; got != want {
		t.Errorf("cause: got %q, want %q", got, want)
	}
	select {
	case code := <-exited:
		t.Fatalf("one signal: got an exit with %d, want none", code)
	default:
	}

	raise(t, syscall.SIGINT)
	if got, want := <-exited, 130; got != want {
		t.Errorf("exit code of the second signal: got %d, want %d", got, want)
	}
}

func raise(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

//go:build unix

package wrapper_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/program"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/wrapper"
)

// registration is a Consul that notes what it is asked.
type registration struct {
	mu         sync.Mutex
	calls      []string
	registered chan struct{}
}

func (r *registration) note(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

func (r *registration) Register(context.Context) error {
	r.note("register")
	close(r.registered)
	return nil
}

func (r *registration) Leave(ctx context.Context, stop func(context.Context) error) error {
	r.note("leave")
	err := stop(ctx)
	r.note("stopped")
	return err
}

func TestEndOfTheContextIsAsAFirstSignal(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreTopFunction("os/signal.loop"))
	r := &registration{registered: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		<-r.registered
		cancel()
	}()
	status, err := wrapper.Run(ctx, wrapper.Config{
		Program:      program.Config{Argv: []string{"sleep", "60"}, Environ: os.Environ()},
		Registration: r, Ready: func(context.Context) error { return nil },
		Stop: syscall.SIGTERM, StopTimeout: 30 * time.Second,
	})
	if err != nil || status.Signal != syscall.SIGTERM {
		t.Errorf("got %v, %v, want the program ended by SIGTERM", status, err)
	}
	if want := []string{"register", "leave", "stopped"}; !slices.Equal(r.calls, want) {
		t.Errorf("Consul was asked %q, want %q", r.calls, want)
	}
}

// hasty leaves only once nothing waits for the program to become ready.
type hasty struct {
	registration
	waits chan struct{} // closed when nothing does
}

func (h *hasty) Leave(ctx context.Context, stop func(context.Context) error) error {
	select {
	case <-h.waits:
	case <-time.After(10 * time.Second):
		h.note("waits on")
	}
	return h.registration.Leave(ctx, stop)
}

func TestStop_ProgramNotReady_NotWaitedFor(t *testing.T) {
	h := &hasty{waits: make(chan struct{})}
	signals := make(chan os.Signal, 1)
	_, err := wrapper.Run(t.Context(), wrapper.Config{
		Program:      program.Config{Argv: []string{"sleep", "60"}, Environ: os.Environ()},
		Registration: h,
		Ready: func(ctx context.Context) error {
			defer close(h.waits)
			signals <- syscall.SIGINT
			<-ctx.Done()
			return ctx.Err()
		},
		Stop: syscall.SIGTERM, StopTimeout: 30 * time.Second, Signals: signals,
	})
	if want := []string{"leave", "stopped"}; err != nil || !slices.Equal(h.calls, want) {
		t.Errorf("%v, Consul was asked %q, want %q", err, h.calls, want)
	}
}

func TestProgramThatIsNotThereIsAStartError(t *testing.T) {
	_, err := wrapper.Run(t.Context(), wrapper.Config{Program: program.Config{Argv: []string{"/no/such"}}})
	if _, ok := errors.AsType[*program.StartError](err); !ok || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a StartError that is ErrNotExist", err)
	}
}

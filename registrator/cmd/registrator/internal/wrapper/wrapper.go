package wrapper

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/program"
)

// Registration is the program's entry in Consul.
type Registration interface {
	// Register returns when the service is registered, or never can be.
	Register(ctx context.Context) error
	// Leave takes it away, and calls stop when the program may stop.
	Leave(ctx context.Context, stop func(context.Context) error) error
}

// Config says what to run, and how.
type Config struct {
	Program      program.Config
	Registration Registration

	// Ready returns nil once the program is ready to serve, or ctx's cause.
	Ready        func(ctx context.Context) error
	ReadyTimeout time.Duration // 0 is without end

	// Other returns which process listens in the program's place, or "". While
	// there is one the program is not ready: the checks reach the other. nil asks
	// nothing.
	Other func(pid int) string

	Stop        syscall.Signal // what tells the program to stop
	StopTimeout time.Duration  // from Stop to SIGKILL

	// Signals are those that we get. SIGTERM and SIGINT make the program leave,
	// all others are passed on.
	Signals <-chan os.Signal

	Logger hclog.Logger // default: none
}

// ErrNeverReady says that the program was not ready within ReadyTimeout.
var ErrNeverReady = errors.New("program not ready")

// A Killed error says that a second signal ended it all at once.
type Killed struct{ Signal syscall.Signal }

func (k Killed) Error() string {
	return "killed by a second signal, " + program.SignalName(k.Signal)
}

// killLimit bounds the wait for the end after SIGKILL, which only a program
// that hangs in the kernel takes.
const killLimit = 5 * time.Second

// Run starts the program and returns when it has ended and is out of Consul.
// The end of ctx is as a first SIGTERM.
// The error is program.Start's; Killed; or why the program was stopped
// although it was not told to: ErrNeverReady, or Consul's refusal.
func Run(ctx context.Context, c Config) (program.Status, error) {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	p, err := program.Start(c.Program)
	if err != nil {
		return program.Status{}, err
	}
	defer p.Close()
	c.Logger.Info("started", "program", c.Program.Argv[0], "pid", p.PID())

	asked := ctx.Done()
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	l := &life{
		Config: c, program: p, asked: asked,
		up: make(chan error, 1), left: make(chan error, 1), done: make(chan struct{}),
	}
	l.beUp(ctx)
	defer func() { end(); <-l.done }()
	return l.run(ctx)
}

package program

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// Config says what to start, and how.
type Config struct {
	Argv    []string // the first is the program, looked up as a shell does
	Environ []string // key=value; its PATH is what is searched

	// SameGroup leaves the program in our process group, so that it may read
	// the terminal and gets what the terminal sends (Ctrl-C, Ctrl-Z). Without
	// it the program gets a group of its own.
	SameGroup bool

	// Orphan is sent to the program when we end before it. Linux only.
	Orphan syscall.Signal

	// Init reaps the processes that lose their parent: as PID 1 all that there
	// are, else those below the program (Linux only).
	Init bool

	Logger hclog.Logger // default: none
}

// A Program is a child that runs, or has ended.
type Program struct {
	config  Config
	log     hclog.Logger
	pid     int
	done    chan struct{}       // closed when status is set
	stopped chan syscall.Signal // has room for one; one that is not taken is dropped
	quit    chan struct{}
	gone    chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // held while a child is reaped, and while the pid is used
	ended  bool
	status Status
}

// A StartError says that the program is not there, if it is fs.ErrNotExist, or
// else that it cannot be executed.
type StartError struct {
	Program string // as it was given
	Err     error
}

func (e *StartError) Error() string { return fmt.Sprintf("start %q: %v", e.Program, e.Err) }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }

// Start starts the program with our standard input, output and error. An error
// that is the program's fault is a *StartError. Call Close at the end.
func Start(c Config) (*Program, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("program: there is none")
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	p := &Program{
		config: c, log: c.Logger,
		done: make(chan struct{}), stopped: make(chan syscall.Signal, 1),
		quit: make(chan struct{}), gone: make(chan struct{}),
	}
	if c.Init && os.Getpid() != 1 {
		if err := adoptOrphans(); err != nil {
			return nil, fmt.Errorf("program: reap orphans: %w", err)
		}
	}
	started := make(chan error)
	go p.keep(started)
	if err := <-started; err != nil {
		return nil, &StartError{c.Argv[0], err}
	}
	return p, nil
}

// keep starts the program and reaps until Close. It keeps its thread all that
// time: the kernel takes the end of the thread that forked for the parent's
// end (prctl(2), PR_SET_PDEATHSIG).
func (p *Program) keep(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.gone)
	ends := make(chan os.Signal, 1) // one is enough: reap takes all that there is
	signal.Notify(ends, syscall.SIGCHLD)
	defer signal.Stop(ends)
	err := p.fork()
	started <- err
	if err != nil {
		return
	}
	for {
		select {
		case <-ends:
			p.reap()
		case <-p.quit:
			return
		}
	}
}

// fork finds and starts the program.
func (p *Program) fork() error {
	file, err := find(p.config.Argv[0], searchPath(p.config.Environ))
	if err != nil {
		return err
	}
	sys := &syscall.SysProcAttr{Setpgid: !p.config.SameGroup}
	signalOrphan(sys, p.config.Orphan)
	// Not os/exec, which wants to reap the child itself.
	p.pid, err = syscall.ForkExec(file, p.config.Argv, &syscall.ProcAttr{
		Env: p.config.Environ, Files: []uintptr{0, 1, 2}, Sys: sys,
	})
	return err
}

// PID is the program's process id, and its group's if it has one of its own.
func (p *Program) PID() int { return p.pid }

// Done is closed when the program has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// Status is how the program ended, once Done is closed.
func (p *Program) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Stopped returns the signal by which the program was stopped (job control).
func (p *Program) Stopped() <-chan syscall.Signal { return p.stopped }

// Close ends the reaping. The program itself, if it runs, runs on, and has lost
// its parent's eye: end it before.
func (p *Program) Close() {
	close(p.quit)
	<-p.gone
}

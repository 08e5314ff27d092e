package proctest

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// patience bounds the wait for a process's end; none takes it unless it fails.
const patience = 30 * time.Second

// Process is a program that runs for a test, or is about to.
type Process struct {
	Cmd            *exec.Cmd // to change before Start
	Stdout, Stderr Output

	tb   testing.TB
	done chan struct{} // closed once it has ended
}

// Prepare returns one that is not started yet. It is killed with the test, and
// of a test that failed its output is shown.
func Prepare(tb testing.TB, env []string, path string, args ...string) *Process {
	tb.Helper()
	p := &Process{tb: tb, Cmd: exec.Command(path, args...), done: make(chan struct{})} //nolint:noctx // end ends it
	p.Cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Stdout, &p.Stderr
	p.Cmd.SysProcAttr = lab.WithParent(&syscall.SysProcAttr{})
	p.Cmd.WaitDelay = time.Second // for what a child left behind holds open
	tb.Cleanup(p.end)
	return p
}

// Start is Prepare, and starts it.
func Start(tb testing.TB, env []string, path string, args ...string) *Process {
	tb.Helper()
	return Prepare(tb, env, path, args...).Start()
}

// Start starts it.
func (p *Process) Start() *Process {
	p.tb.Helper()
	started := make(chan error)
	go func() {
		// It ends with this thread: see lab.WithParent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.Cmd.Start()
		started <- err
		if err == nil {
			_ = p.Cmd.Wait() // ProcessState tells how it ended
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		p.tb.Fatal(err)
	}
	return p
}

// PID is the process's id.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.tb.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.tb.Fatalf("%s: signal %s: %v", p.Cmd.Path, s, err)
	}
}

// Wait waits for the end and gives the exit code, or -1 if a signal ended it.
func (p *Process) Wait() int {
	p.tb.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.tb.Fatalf("%s has not ended within %v", p.Cmd.Path, patience)
	}
	return p.Cmd.ProcessState.ExitCode()
}

func (p *Process) end() {
	if p.Cmd.Process != nil {
		_ = p.Cmd.Process.Kill() // ended already: as well
		<-p.done
	}
	if p.tb.Failed() {
		p.tb.Logf("%s\nstdout:\n%sstderr:\n%s", p.Cmd, &p.Stdout, &p.Stderr)
	}
}

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one program that the lab has started.
type Process struct {
	Name string
	Log  string // the file that its output goes to

	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; set before done is closed
}

// starter runs every fork on one thread that lives as long as this program:
// the kernel ends a child when the thread that forked it ends, not only when
// the process does (prctl(2), PR_SET_PDEATHSIG).
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start runs a program whose output goes to a file of its name. Close ends it.
func (l *Lab) Start(name, program string, args ...string) (*Process, error) {
	return l.startWith(name, nil, program, args...)
}

// startWith is Start with variables beside the lab's own environment.
func (l *Lab) startWith(name string, environ []string, program string, args ...string) (*Process, error) {
	if program == "" {
		return nil, fmt.Errorf("lab: start %s: its program is not among Programs", name)
	}
	p := &Process{Name: name, Log: l.Path(name + ".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", name, err)
	}
	p.cmd = exec.Command(program, args...) //nolint:noctx // it outlives every call; Close ends it
	p.cmd.Dir, p.cmd.Stderr, p.cmd.Stdout = l.dir, out, out
	p.cmd.Env = append(os.Environ(), environ...)
	// A group of its own, so that Ctrl-C reaches the lab only, which ends the
	// rest in order; and never an orphan, if the lab itself is killed.
	p.cmd.SysProcAttr = WithParent(&syscall.SysProcAttr{Setpgid: true})
	p.cmd.WaitDelay = 2 * time.Second
	begun := make(chan error)
	starter() <- func() { begun <- p.cmd.Start() }
	if err := <-begun; err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", name, errors.Join(err, out.Close()))
	}
	go func() {
		p.err = p.cmd.Wait()
		_ = out.Close() // a log
		close(p.done)
	}()
	l.mu.Lock()
	l.processes = append(l.processes, p)
	l.mu.Unlock()
	l.logf("%-10s started, pid %d", name, p.PID())
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running reports whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("lab: %s: signal %s: %w", p.Name, s, err)
	}
	return nil
}

func (p *Process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) } // ended already: as well

// Freeze stops it and its group in the middle of whatever they do; Thaw lets
// them go on. Their sockets take connections, and nothing answers.
func (p *Process) Freeze() error { return p.signalGroup(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (p *Process) Thaw() error { return p.signalGroup(syscall.SIGCONT) }

func (p *Process) signalGroup(s syscall.Signal) error {
	if err := syscall.Kill(-p.PID(), s); err != nil {
		return fmt.Errorf("lab: %s: signal %s to its group: %w", p.Name, s, err)
	}
	return nil
}

// Kill ends it and its group at once, as a machine that fails does.
func (p *Process) Kill() error {
	if err := syscall.Kill(-p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("lab: kill %s: %w", p.Name, err)
	}
	if !p.waitUntil(time.Now().Add(5 * time.Second)) {
		return fmt.Errorf("lab: %s (pid %d) did not end", p.Name, p.PID())
	}
	return nil
}

// Terminate asks it to stop and does not wait.
func (p *Process) Terminate() error { return p.Signal(syscall.SIGTERM) }

// Stop sends SIGTERM and waits for the end. The exit code is an error unless
// it is 0.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.Wait(limit)
}

// Wait waits for the end. The exit code is an error unless it is 0.
func (p *Process) Wait(limit time.Duration) error {
	if !p.waitUntil(time.Now().Add(limit)) {
		return fmt.Errorf("lab: %s has not ended after %s; its log ends:\n%s", p.Name, limit, p.Tail(20))
	}
	if p.err != nil {
		return fmt.Errorf("lab: %s: %w; its log ends:\n%s", p.Name, p.err, p.Tail(20))
	}
	return nil
}

// ExitCode is the exit code of a process that has ended; -1 for one that runs
// or was ended by a signal.
func (p *Process) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *Process) waitUntil(deadline time.Time) bool {
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string {
	content, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(content, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// RSS is its resident memory in KiB, as /proc tells it.
func (p *Process) RSS() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("lab: %s: %w", p.Name, err)
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			var kib int
			_, err := fmt.Sscan(value, &kib)
			return kib, err
		}
	}
	return 0, fmt.Errorf("lab: %s: no VmRSS", p.Name)
}

package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// Runner runs commands.
type Runner struct {
	Environ []string // of every command, as os.Environ gives it
	Timeout time.Duration
	// KillAfter is how long a command that is ended early may take to do so;
	// default DefaultKillAfter.
	KillAfter time.Duration
	// Output gets each line that a command prints, with the command's label;
	// nil ok. It may be called by several commands at once.
	Output func(label, line string)
}

// DefaultKillAfter lets a command tidy up.
const DefaultKillAfter = 5 * time.Second

const (
	// followEvery is how often it is looked whether a command has printed more.
	followEvery = 100 * time.Millisecond
	// groupEvery is how often it is looked whether all of a group have ended.
	groupEvery = 20 * time.Millisecond
	// maxTail is how much of a command's output is kept for an error.
	maxTail = 300 // bytes
)

// run runs a program to its end. Its output is in a file and not in a pipe: a
// node that it leaves in the background would be killed by the pipe's end, or
// keep it open without end.
func (r Runner) run(ctx context.Context, label string, environ []string, program string, args ...string) error {
	out, err := unnamed()
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // nothing is left to be written
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("did not end within %s", r.Timeout))
	defer cancel()
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // the operator's own; ended below, with its group
	cmd.Env = append(append([]string{}, r.Environ...), environ...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	f := &follower{file: out, say: func(line string) { r.say(label, line) }}
	err = r.await(ctx, cmd.Process.Pid, ended, f)
	f.rest()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s: %w, after %.1fs; its last output: %s", label, err, time.Since(begun).Seconds(), deploy.Quote(f.tail))
}

// await waits for the end, and brings it about when ctx ends: by SIGTERM, then
// by SIGKILL, to the whole group.
func (r Runner) await(ctx context.Context, pid int, ended <-chan error, f *follower) error {
	look := time.NewTicker(followEvery)
	defer look.Stop()
	done := ctx.Done() // nil once it was told to end
	var kill <-chan time.Time
	for {
		select {
		case err := <-ended:
			if done != nil {
				return err
			}
			// The shell has gone; what is left of its group is not to go on.
			if kill != nil {
				endGroup(pid, kill)
			}
			return errors.Join(err, errCutShort)
		case <-look.C:
			f.more()
		case <-done:
			done = nil
			_ = syscall.Kill(-pid, syscall.SIGTERM) // ESRCH: it is ending
			kill = time.After(cmp.Or(r.KillAfter, DefaultKillAfter))
		case <-kill:
			// Only the shell's own end is left after this.
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			kill = nil
		}
	}
}

// endGroup waits until nothing is left of a group that has got SIGTERM, and
// kills what is left when its time is over.
func endGroup(pid int, kill <-chan time.Time) {
	look := time.NewTicker(groupEvery)
	defer look.Stop()
	for syscall.Kill(-pid, 0) == nil {
		select {
		case <-look.C:
		case <-kill:
			_ = syscall.Kill(-pid, syscall.SIGKILL) // ESRCH: nothing is left after all
			return
		}
	}
}

// errCutShort says that a command did not end by itself, whatever its exit code.
var errCutShort = errors.New("stopped early")

func (r Runner) say(label, line string) {
	if r.Output != nil {
		r.Output(label, line)
	}
}

// unnamed returns a file that is gone once no process has it open.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "pointsman-deploy-")
	if err != nil {
		return nil, fmt.Errorf("a file for the command's output: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// follower reads a file as it grows, line by line.
type follower struct {
	file *os.File
	at   int64
	part string // of a line that has no end yet
	tail string // the last of all that was read
	say  func(string)
}

// more reads what is new, in bounded bites.
func (f *follower) more() {
	buffer := make([]byte, 32<<10)
	for {
		n, err := f.file.ReadAt(buffer, f.at)
		f.at += int64(n)
		f.take(string(buffer[:n]))
		if err != nil || n == 0 { // io.EOF, as a rule; the output is not worth more than a try
			return
		}
	}
}

func (f *follower) take(text string) {
	f.tail += text
	f.tail = f.tail[max(0, len(f.tail)-maxTail):]
	f.part += text
	for {
		line, rest, whole := strings.Cut(f.part, "\n")
		if !whole && len(f.part) < maxLine {
			return
		}
		f.say(strings.TrimRight(line, "\r"))
		f.part = rest
	}
}

// maxLine is the longest line that is shown as one.
const maxLine = 4 << 10

// rest reads to the end.
func (f *follower) rest() {
	f.more()
	if f.part != "" {
		f.say(f.part)
		f.part = ""
	}
}

// output runs a program to its end and gives what it printed, for programs that
// print little.
func (r Runner) output(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("did not end within %s", r.Timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // Docker
	cmd.Env = r.Environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var failed strings.Builder
	cmd.Stderr = &limited{to: &failed, left: 4 << 10}
	printed, err := cmd.Output()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args[:min(len(args), 2)], " "), err, deploy.Quote(failed.String()))
	}
	return string(printed), nil
}

// limited writes so much and passes over the rest.
type limited struct {
	to   io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.to.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

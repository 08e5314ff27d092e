//go:build linux

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs under test, and one for them to wrap. TestMain builds both.
var wrapper, child string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "pm")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		wrapper, child = filepath.Join(dir, "registrator"), filepath.Join(dir, "child")
		for _, args := range [][]string{
			append(append([]string{"build", "-o", wrapper}, raceFlags...), "."),
			{"build", "-o", child, "./testdata/child"},
		} {
			if out, err := exec.CommandContext(context.Background(), "go", args...).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "go %q: %v\n%s", args, err, out)
				return 1
			}
		}
		// A signal that a shell has made us ignore would be ignored by what we
		// start. One that we handle is not.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP)
		defer endSharedConsul()
		return m.Run()
	}())
}

// deadline bounds every wait for a fact; none takes it unless it fails.
const deadline = 30 * time.Second

// output is a buffer that is read while a process writes it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// process is a program that runs.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	done           chan struct{}
	stdout, stderr output
}

// command is a wrapper that is not started yet, with nothing in its environment
// but what is given.
func command(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline) // outlives t.Context, for Cleanup
	p := &process{t: t, cmd: exec.CommandContext(ctx, wrapper, args...), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "CONSUL_HTTP_ADDR=127.0.0.1:1"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = time.Second // for what a child left behind holds open
	t.Cleanup(func() {
		cancel()
		if p.cmd.Process != nil {
			<-p.done
		}
		if t.Failed() {
			t.Logf("stdout:\n%sstderr:\n%s", &p.stdout, &p.stderr)
		}
	})
	return p
}

func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return command(t, env, args...).start()
}

func (p *process) start() *process {
	p.t.Helper()
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		p.t.Fatal(err)
	}
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait gives the exit code, as a shell would.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(deadline):
		p.t.Fatalf("it has not ended within %v", deadline)
	}
	if status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// said waits until the child has said the word, and gives what follows.
func (p *process) said(word string) string {
	p.t.Helper()
	var rest string
	eventually(p.t, fmt.Sprintf("%q by the child", word), func() bool {
		for line := range strings.Lines(p.stdout.String()) {
			var found bool
			if rest, found = strings.CutPrefix(line, word+" "); found && strings.HasSuffix(line, "\n") {
				rest = strings.TrimSpace(rest)
				return true
			}
		}
		return false
	})
	return rest
}

// got waits until the child has got the signal. It may be after the SIGCONT
// that follows: the order of signals that are pending at a time is nobody's.
func (p *process) got(signal string) {
	p.t.Helper()
	eventually(p.t, "got "+signal+" by the child", func() bool { return strings.Contains(p.stdout.String(), "got "+signal+"\n") })
}

// saidPID is said, for a process.
func (p *process) saidPID(word string) int {
	p.t.Helper()
	pid, err := strconv.Atoi(p.said(word))
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// logs waits until the wrapper has logged the text.
func (p *process) logs(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("log of %q", text), func() bool { return strings.Contains(p.stderr.String(), text) })
}

// run runs a wrapper to its end.
func run(t *testing.T, stdin io.Reader, env []string, args ...string) (code int, p *process) {
	t.Helper()
	p = command(t, env, args...)
	p.cmd.Stdin = stdin
	code = p.start().wait()
	return code, p
}

// wrap is the arguments for a child that serves, on a port of its own.
func wrap(port int, flags []string, childArgs ...string) []string {
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	args := append([]string{"run", "--service", "api", "--port", strconv.Itoa(port)}, flags...)
	return append(append(args, "--", child, "serve", "--listen", at), childArgs...)
}

// idle is the arguments for a child that does not serve.
func idle(childArgs ...string) []string {
	return append([]string{"run", "--service", "api", "--port", "1", "--", child}, childArgs...)
}

// freePort gives a port below those that the kernel gives to connections, so
// that it stays free.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 12000 + rand.IntN(20000)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	over := time.Now().Add(deadline)
	for !fact() {
		if time.Now().After(over) {
			t.Fatalf("no %s within %v", what, deadline)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// state is a process's state as /proc shows it (proc(5)), and its parent; "" if
// there is no such process.
func state(t *testing.T, pid int) (letter string, parent int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return "", 0
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	if _, err := fmt.Fscan(bytes.NewReader(rest), &letter, &parent); err != nil {
		t.Fatal(err)
	}
	return letter, parent
}

// gone tells whether a process has ended; a zombie has.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	letter, _ := state(t, pid)
	return letter == "" || letter == "Z"
}

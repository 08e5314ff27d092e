//go:build linux

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// The programs under test: the wrapper, and one for it to wrap.
var (
	wrapper = &proctest.Built{Source: ".", Flags: raceFlags}
	child   = &proctest.Built{Source: "./testdata/child"}
)

func TestMain(m *testing.M) {
	lab.Parallel(8)
	// A signal that a shell has made us ignore would be ignored by what we
	// start. One that we handle is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP)
	code := proctest.Main(m, wrapper, child)
	if err := endShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// deadline bounds every wait for a fact; none takes it unless it fails.
const deadline = 30 * time.Second

// process is a wrapper that runs.
type process struct {
	*proctest.Process
	t *testing.T
}

// command is a wrapper that is not started yet, with nothing in its environment
// but what is given.
func command(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return &process{proctest.Prepare(t, append([]string{"CONSUL_HTTP_ADDR=127.0.0.1:1"}, env...), wrapper.Path, args...), t}
}

func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return command(t, env, args...).start()
}

func (p *process) start() *process {
	p.t.Helper()
	p.Start()
	return p
}

// wait returns the exit code, as a shell would.
func (p *process) wait() int {
	p.t.Helper()
	code := p.Wait()
	if status, _ := p.Cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return code
}

// said waits until the child has said the word, and gives what follows.
func (p *process) said(word string) string {
	p.t.Helper()
	var rest string
	eventually(p.t, fmt.Sprintf("%q by the child", word), func() bool {
		for line := range strings.Lines(p.Stdout.String()) {
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
// that follows: the order of signals that are pending at a time is not defined.
func (p *process) got(signal string) {
	p.t.Helper()
	eventually(p.t, "got "+signal+" by the child", func() bool { return strings.Contains(p.Stdout.String(), "got "+signal+"\n") })
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
	eventually(p.t, fmt.Sprintf("log of %q", text), func() bool { return strings.Contains(p.Stderr.String(), text) })
}

// run runs a wrapper to its end.
func run(t *testing.T, stdin io.Reader, env []string, args ...string) (code int, p *process) {
	t.Helper()
	p = command(t, env, args...)
	p.Cmd.Stdin = stdin
	code = p.start().wait()
	return code, p
}

// wrap is the arguments for a child that serves, on a port of its own.
func wrap(port int, flags []string, childArgs ...string) []string {
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	args := append([]string{"run", "--service", "api", "--port", strconv.Itoa(port)}, flags...)
	return append(append(args, "--", child.Path, "serve", "--listen", at), childArgs...)
}

// idle is the arguments for a child that does not serve.
func idle(childArgs ...string) []string {
	return append([]string{"run", "--service", "api", "--port", "1", "--", child.Path}, childArgs...)
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	proctest.Until(t, deadline, what, fact)
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

// gone reports whether a process has ended; a zombie has.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	letter, _ := state(t, pid)
	return letter == "" || letter == "Z"
}

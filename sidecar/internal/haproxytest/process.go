package haproxytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// patience bounds every wait for a process.
const patience = 10 * time.Second

// Process is a real HAProxy, a master and its worker, in a directory of its own.
type Process struct {
	tb      testing.TB
	dir     string
	binary  string
	cmd     *exec.Cmd
	exited  chan struct{} // closed once the master has ended
	log     proctest.Output
	options Options
}

// Options of a Process.
type Options struct {
	NoMaster bool   // without a master socket; there is a master all the same
	Level    string // of the runtime socket; "" is admin
	Global   string // more lines of the global section
	Raw      bool   // the configuration is the whole file
	Network  bool   // in a network of its own, as in a container; Linux only
}

// Start starts HAProxy with a configuration and waits until it answers. The
// configuration needs no global and defaults sections: they are put before it,
// with a runtime socket. The test's end stops it.
func Start(tb testing.TB, config string) *Process {
	tb.Helper()
	return StartWith(tb, Options{}, config)
}

// StartWith is Start with options.
func StartWith(tb testing.TB, o Options, config string) *Process {
	tb.Helper()
	p := Prepare(tb, o, config)
	p.Launch()
	return p
}

// Prepare is StartWith without the start: see Launch.
func Prepare(tb testing.TB, o Options, config string) *Process {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pm") // tb.TempDir is too long for a socket's path
	if err != nil {
		tb.Fatalf("directory for HAProxy: %v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &Process{tb: tb, dir: dir, binary: Binary(tb), options: o}
	p.WriteConfig(config)
	return p
}

// Runtime is the path of the worker's runtime socket.
func (p *Process) Runtime() string { return filepath.Join(p.dir, "r.sock") }

// Master is the path of the master's socket.
func (p *Process) Master() string { return filepath.Join(p.dir, "m.sock") }

// Dir is the directory of its sockets and its file: a short path.
func (p *Process) Dir() string { return p.dir }

// ConfigFile is the path of the file that HAProxy loads.
func (p *Process) ConfigFile() string { return filepath.Join(p.dir, "haproxy.cfg") }

// Log is what HAProxy has printed so far.
func (p *Process) Log() string { return p.log.String() }

// MasterPID is the master's process id.
func (p *Process) MasterPID() int { return p.cmd.Process.Pid }

// WriteConfig replaces the configuration; Reload makes it run.
func (p *Process) WriteConfig(config string) {
	p.tb.Helper()
	if !p.options.Raw {
		config = p.head() + config
	}
	if err := os.WriteFile(p.ConfigFile(), []byte(config), 0o600); err != nil {
		p.tb.Fatalf("haproxy.cfg: %v", err)
	}
}

func (p *Process) head() string {
	return "global\n" +
		"  stats socket " + p.Runtime() + " mode 600 level " + cmp.Or(p.options.Level, "admin") + "\n" +
		p.options.Global + "\n" +
		"defaults\n" +
		"  mode http\n" +
		"  timeout connect 1s\n" +
		"  timeout client 30s\n" +
		"  timeout server 30s\n"
}

// Launch starts HAProxy and waits until its worker answers.
func (p *Process) Launch() {
	p.tb.Helper()
	args := []string{"-W", "-f", p.ConfigFile()}
	if !p.options.NoMaster {
		args = append(args, "-S", p.Master())
	}
	p.cmd = exec.CommandContext(context.Background(), p.binary, args...) // ended by Stop
	p.cmd.Dir = p.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the workers end with the group
	if p.options.Network {
		ownNetwork(p.cmd.SysProcAttr)
	}
	if err := p.cmd.Start(); err != nil {
		p.tb.Fatalf("start %s: %v", p.binary, err)
	}
	cmd, exited := p.cmd, make(chan struct{})
	p.exited = exited
	go func() {
		_ = cmd.Wait() // how it ended is of no interest, that it ended is
		close(exited)
	}()
	p.tb.Cleanup(p.Stop)
	p.Until("HAProxy connected", func() bool {
		select {
		case <-exited:
			p.tb.Fatalf("HAProxy ended at its start:\n%s", p.Log())
		default:
		}
		_, err := p.Worker()
		if err == nil && !p.options.NoMaster {
			_, err = Send(p.Master(), "show proc", true) // it listens a little later
		}
		return err == nil
	})
}

// Stop ends HAProxy and waits for it. It may be called more than once.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.exited:
	case <-time.After(patience):
	}
	p.Kill()
}

// Kill ends the master and all workers at once, as kill -9 does.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group is gone if all went well
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.tb.Errorf("HAProxy %d does not end", p.cmd.Process.Pid)
	}
}

// Freeze stops processes in the middle of whatever they do, as a debugger or a
// starved host does: their sockets take connections and nothing answers. Those
// that a test does not thaw end with it. All their threads stand still when it
// returns: kill(2) does not wait for that.
func (p *Process) Freeze(pids ...int) {
	p.tb.Helper()
	p.signal(syscall.SIGSTOP, pids)
	for _, pid := range pids {
		Until(p.tb, fmt.Sprintf("process %d stands still", pid), func() bool { return isStopped(pid) })
	}
}

// isStopped reads the state of each thread (proc(5), stat); where there is no
// /proc it is unknown, and it is taken for so.
func isStopped(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return true
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// Thaw lets them go on.
func (p *Process) Thaw(pids ...int) { p.signal(syscall.SIGCONT, pids) }

func (p *Process) signal(signal syscall.Signal, pids []int) {
	p.tb.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			p.tb.Fatalf("%s to HAProxy's process %d: %v", signal, pid, err)
		}
	}
}

// ErrNoAnswer says that HAProxy did not tell who it is.
var ErrNoAnswer = errors.New("no Pid in the answer to show info")

var pidLine = regexp.MustCompile(`(?m)^Pid: (\d+)$`)

// Worker asks the current worker for its process id.
func (p *Process) Worker() (pid int, err error) {
	reply, err := Send(p.Runtime(), "show info", false)
	if err != nil {
		return 0, err
	}
	m := pidLine.FindStringSubmatch(reply)
	if m == nil {
		return 0, ErrNoAnswer
	}
	return strconv.Atoi(m[1])
}

// Command sends a line to the runtime socket and gives the answer.
func (p *Process) Command(line string) string {
	p.tb.Helper()
	reply, err := Send(p.Runtime(), line, false)
	if err != nil {
		p.tb.Fatalf("%s: %v", line, err)
	}
	return reply
}

// MasterCommand sends a line to the master's socket and gives the answer.
func (p *Process) MasterCommand(line string) string {
	p.tb.Helper()
	reply, err := Send(p.Master(), line, true)
	if err != nil {
		p.tb.Fatalf("%s: %v", line, err)
	}
	return reply
}

// Reload makes HAProxy load its file again, by a signal to the master, and
// waits for the new worker. It is independent of the code under test.
func (p *Process) Reload() {
	p.tb.Helper()
	before, err := p.Worker()
	if err != nil {
		p.tb.Fatalf("before a reload: %v", err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		p.tb.Fatalf("reload: %v", err)
	}
	p.Until("a new worker answers", func() bool {
		now, err := p.Worker()
		return err == nil && now != before
	})
}

// Until polls for a fact.
func (p *Process) Until(fact string, is func() bool) {
	p.tb.Helper()
	Until(p.tb, fact, is)
	if p.tb.Failed() {
		p.tb.Logf("HAProxy's log:\n%s", p.Log())
	}
}

// Until polls for a fact and fails the test if it does not come.
func Until(tb testing.TB, fact string, is func() bool) {
	tb.Helper()
	proctest.Until(tb, patience, fact, is)
}

// Send sends one line to a unix socket and gives all that comes back.
func Send(path, line string, halfClose bool) (string, error) {
	return lab.Ask(context.Background(), path, line, halfClose, patience)
}

// Check asks HAProxy whether its file is valid (`haproxy -c`).
func (p *Process) Check() (output string, valid bool) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(p.tb.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.binary, "-c", "-f", p.ConfigFile()).CombinedOutput()
	return string(out), err == nil
}

// Binary returns the HAProxy under test: the environment's HAPROXY, else the one
// on PATH, else Debian's place for it. With -short, which is `make unit`, it
// skips the test.
func Binary(tb testing.TB) string {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs HAProxy: run `make test`")
	}
	if path := os.Getenv("HAPROXY"); path != "" {
		return path
	}
	if path, err := exec.LookPath("haproxy"); err == nil {
		return path
	}
	const debian = "/usr/sbin/haproxy" // not on a user's PATH
	if _, err := os.Stat(debian); err != nil {
		tb.Fatalf("no HAProxy: neither in HAPROXY, nor on PATH, nor %s; run `make tools`", debian)
	}
	return debian
}

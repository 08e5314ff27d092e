//go:build linux

package main_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal makes the process the first of a session on a terminal of its own,
// as a login shell is. What is written to the file is typed.
func (p *process) terminal() *os.File {
	p.t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = ours.Close() })
	fd := int(ours.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	its, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = its.Close() })
	p.Cmd.Stdin = its
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return ours
}

const ctrlC = "\x03"

func TestCtrlCReachesTheWrapperAndNotTheProgram(t *testing.T) {
	p := command(t, nil, wrap(freePort(t), nil)...)
	terminal := p.terminal()
	p.start().said("pid")
	if _, err := io.WriteString(terminal, ctrlC); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want the program's 0", got)
	}
	p.logs("leaving: cause=SIGINT")
	if out := p.Stdout.String(); strings.Contains(out, "SIGINT") || !strings.Contains(out, "got SIGTERM") {
		t.Errorf("the program said %q, want it to hear of SIGTERM only", out)
	}
}

func TestProgramThatReadsTheTerminalGetsAHint(t *testing.T) {
	p := command(t, nil, idle("cat")...)
	terminal := p.terminal()
	p.start()
	if _, err := io.WriteString(terminal, "hello\n"); err != nil {
		t.Fatal(err)
	}
	p.logs("use --foreground: signal=SIGTTIN")
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 143 {
		t.Errorf("exit code %d, want 143, of SIGTERM", got)
	}
}

func TestProgramInTheForegroundReadsTheTerminal(t *testing.T) {
	p := command(t, nil, append([]string{"run", "--foreground"}, idle("cat")[1:]...)...)
	terminal := p.terminal()
	p.start()
	if _, err := io.WriteString(terminal, "hello you\n"); err != nil {
		t.Fatal(err)
	}
	if got := p.said("hello"); got != "you" {
		t.Errorf("the program read %q, want what was typed", got)
	}
	p.Signal(syscall.SIGTERM)
	p.wait()
}

func TestProgramInTheForegroundGetsCtrlC(t *testing.T) {
	// A stop signal that does not end the program: it may come first.
	p := command(t, nil, wrap(freePort(t), []string{"--foreground", "--signal", "USR2", "--stop-timeout", "300ms"})...)
	terminal := p.terminal()
	p.start().said("pid")
	if _, err := io.WriteString(terminal, ctrlC); err != nil {
		t.Fatal(err)
	}
	p.wait()
	if out := p.Stdout.String(); !strings.Contains(out, "got SIGINT") {
		t.Errorf("the program said %q, want it to hear of SIGINT", out)
	}
}

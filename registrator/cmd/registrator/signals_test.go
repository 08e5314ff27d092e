//go:build linux

package main_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSignalsArePassedOn(t *testing.T) {
	p := start(t, nil, wrap(freePort(t), nil)...)
	p.said("pid")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT} {
		p.Signal(s)
		eventually(t, unix.SignalName(s), func() bool {
			return strings.Contains(p.Stdout.String(), "got "+unix.SignalName(s)+"\n")
		})
	}
	p.Signal(syscall.SIGINT)
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if out := p.Stdout.String(); !strings.HasSuffix(out, "got SIGTERM\n") && !strings.Contains(out, "got SIGTERM\ngot SIGCONT") || strings.Contains(out, "SIGINT") {
		t.Errorf("the program said %q, want SIGINT turned into SIGTERM", out)
	}
}

func TestStopSignalIsSettable(t *testing.T) {
	p := start(t, nil, wrap(freePort(t), []string{"--signal", "USR2", "--stop-timeout", "200ms"})...)
	p.said("pid")
	p.Signal(syscall.SIGTERM)
	p.got("SIGUSR2")
	p.wait()
}

func TestSuspendedTogetherAndContinuedTogether(t *testing.T) {
	p := start(t, nil, wrap(freePort(t), nil)...)
	pid := p.saidPID("pid")
	both := func(want bool) func() bool {
		return func() bool {
			ours, _ := state(t, p.Cmd.Process.Pid)
			its, _ := state(t, pid)
			return (ours == "T") == want && (its == "T") == want
		}
	}
	for range 2 {
		p.Signal(syscall.SIGTSTP)
		eventually(t, "stop of both", both(true))
		p.Signal(syscall.SIGCONT)
		eventually(t, "continuation of both", both(false))
	}
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
}

func TestStoppedProgramHearsOfItsEnd(t *testing.T) {
	p := start(t, nil, wrap(freePort(t), nil, "--code", "4")...)
	pid := p.saidPID("pid")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.logs(`program suspended: signal=SIGSTOP`)
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 4 {
		t.Errorf("exit code %d, want the program's 4", got)
	}
}

func TestSecondSignalEndsAllAtOnce(t *testing.T) {
	for name, second := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			c := sharedConsul(t)
			port := freePort(t)
			id := "second-" + strconv.Itoa(port)
			p := start(t, c.env(), wrap(port, []string{"--id", id, "--leave-wait", "1m"}, "--stubborn", "--helper")...)
			pid, helper := p.saidPID("pid"), p.saidPID("helper")
			c.registered(t, "api", id)
			p.Signal(syscall.SIGTERM)
			p.logs("marked as leaving")
			began := time.Now()
			p.Signal(second)
			if got, want := p.wait(), 128+int(second); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v, want at once", took)
			}
			if !gone(t, pid) {
				t.Error("the program runs on")
			}
			eventually(t, "end of its helper", func() bool { return gone(t, helper) })
			if strings.Contains(p.Stdout.String(), "got SIGTERM") {
				t.Error("the program got SIGTERM, and was still in use")
			}
		})
	}
}

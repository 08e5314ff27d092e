package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// inside is set for the process that soaks: "disk" where it may mount one, "-"
// where not. Its value is no setting: runInside decides.
const inside = "SOAK_INSIDE"

// runInside runs this program again in a mount namespace of its own, as root
// of it. There a disk can be mounted that fills up, by whomever, and nothing of
// it is left however this ends. Where the kernel allows no namespace, the
// faults of a disk are made without one.
func runInside(cfg config) (code int, err error) {
	runtime.LockOSThread() // the child ends with the thread that started it
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	cmd, err := startAgain(cfg, "disk", namespace())
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: no mount namespace (%v): the disk is taken away only, and neither full nor read-only\n", err)
		cmd, err = startAgain(cfg, "-", &syscall.SysProcAttr{})
	}
	if err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it has ended: so do we
		}
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func startAgain(cfg config, disk string, attr *syscall.SysProcAttr) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:noctx // it gets our signals
	cmd.Args = append(cmd.Args, "--seed", strconv.FormatUint(cfg.seed, 10))
	cmd.Env = append(os.Environ(), inside+"="+disk)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	// A group of its own: a Ctrl-C comes once, from us.
	attr.Setpgid, attr.Pdeathsig = true, syscall.SIGKILL
	return cmd, cmd.Start()
}

func namespace() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

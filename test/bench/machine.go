package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// Machine is under which circumstances a row was measured.
type Machine struct {
	CPUs       int     `json:"cpus"`
	LoadBefore float64 `json:"load_before"` // average of a minute
	LoadAfter  float64 `json:"load_after"`
	HAProxy    string  `json:"haproxy"`
	Consul     string  `json:"consul"`
	Commit     string  `json:"commit"`
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+`)

func thisMachine(ctx context.Context, p lab.Programs) (m Machine, err error) {
	m.CPUs = runtime.NumCPU()
	var errs [4]error
	m.LoadBefore, errs[0] = load()
	m.HAProxy, errs[1] = versionOf(ctx, p.HAProxy, "-v")
	m.Consul, errs[2] = versionOf(ctx, p.Consul, "version")
	root, err := lab.Root()
	if err != nil {
		return m, err
	}
	describe := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty")
	describe.Dir = root
	out, err := describe.Output()
	errs[3] = err
	m.Commit = strings.TrimSpace(string(out))
	return m, errors.Join(errs[:]...)
}

func versionOf(ctx context.Context, program, flag string) (string, error) {
	out, err := exec.CommandContext(ctx, program, flag).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, flag, err)
	}
	return string(versionNumber.Find(out)), nil
}

func load() (float64, error) {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(content), " ")
	return strconv.ParseFloat(first, 64)
}

// ticks of the processor clock in a second: Linux has the same on all machines
// that Go runs on (proc(5), sysconf(_SC_CLK_TCK)).
const ticksPerSecond = 100

// cpuTime is what a process has used of the processors so far, its ended
// children not counted.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold spaces.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	user, err := strconv.Atoi(string(fields[11]))
	system, errSystem := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err, errSystem)
}

// openFiles counts a process's file descriptors.
func openFiles(pid int) (int, error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files), err
}

// residentMiB is a process's resident memory.
func residentMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(status))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of %d: %q", pid, status)
	}
	pages, err := strconv.Atoi(fields[1])
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20), err
}

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoMaster says that what was asked needs a master socket, and none is set.
var ErrNoMaster = errors.New("haproxy: no master socket is set")

// OldWorkers lists the workers that finish what they have, by their PIDs: those that the
// master calls old and that do not serve. It needs a master socket.
func (c *Client) OldWorkers(ctx context.Context) ([]int, error) {
	if c.master == (endpoint{}) {
		return nil, ErrNoMaster
	}
	current, _, err := infoAnd(ctx, repeated(c.ask), "old workers")
	if err != nil {
		return nil, err
	}
	workers, err := c.oldWorkers(ctx, current.pid)
	c.noteMaster(err)
	return workers, err
}

// noteMaster logs a master that cannot be asked beside a worker that answers, such as one
// of a HAProxy that was started without -S. A deadline is no news: a master does not
// answer while it reads a large file.
func (c *Client) noteMaster(err error) {
	isAway := slices.ContainsFunc([]error{ErrNoSocket, ErrConnRefused, ErrPermission, ErrUnexpectedReply}, func(e error) bool { return errors.Is(err, e) })
	if err != nil && !isAway || !c.transition(&c.masterAway, isAway) {
		return
	}
	if isAway {
		c.log.Warn("master socket unusable, old workers are not seen", "error", err)
		return
	}
	c.log.Info("master socket recovered")
}

// oldWorkers leaves out the current one where the master has no other: since 3.1
// it lists the worker that serves under the old ones after a failed reload. Where
// it has another, a reload came after the current one was asked, and that is old.
func (c *Client) oldWorkers(ctx context.Context, current int) ([]int, error) {
	processes, err := c.awaitMaster(ctx)
	if err != nil {
		return nil, err
	}
	if len(processes.workers) > 0 {
		return processes.old, nil
	}
	return slices.DeleteFunc(processes.old, func(pid int) bool { return pid == current }), nil
}

// showProc asks the master once; see awaitMaster.
func (c *Client) showProc(ctx context.Context) (processes, error) {
	reply, err := c.tellMaster(ctx, "show proc", c.timeout)
	if err != nil {
		return processes{}, err
	}
	p, err := parseProc(reply)
	if err != nil {
		return processes{}, fmt.Errorf("haproxy: master socket %s: %w", c.master, err)
	}
	return p, nil
}

// OldWorkersMemory sums up the resident memory of the old workers, in bytes,
// as /proc tells it (proc(5), VmRSS). One that cannot be read, because it has
// just ended or lives in another container, adds nothing.
func (c *Client) OldWorkersMemory(ctx context.Context) (int64, error) {
	workers, err := c.OldWorkers(ctx)
	if err != nil {
		return 0, err
	}
	return memoryOf("/proc", workers), nil
}

func memoryOf(proc string, workers []int) (sum int64) {
	for _, pid := range workers {
		text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
		if err != nil {
			continue
		}
		if n, err := parseResident(string(text)); err == nil {
			sum += n
		}
	}
	return sum
}

// parseResident reads /proc/PID/status. The number of a process in another
// container may be another program's here.
func parseResident(status string) (int64, error) {
	isHAProxy := false
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			isHAProxy = strings.HasPrefix(value, "haproxy")
		case "VmRSS":
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
			if err != nil || kilobytes < 0 || kilobytes > 1<<50 {
				return 0, fmt.Errorf("%w: VmRSS %s", ErrUnexpectedReply, excerpt(value))
			}
			if !isHAProxy {
				return 0, fmt.Errorf("%w: another program", ErrUnexpectedReply)
			}
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("%w: no VmRSS", ErrUnexpectedReply)
}

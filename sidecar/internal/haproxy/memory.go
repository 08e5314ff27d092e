package haproxy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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

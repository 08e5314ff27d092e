package haproxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// processes is the reply to `show proc` on the master socket. Workers are PIDs.
type processes struct {
	masterPID int
	reloads   int // of the master: how often it loaded its file again
	failed    int // how many of the last ones failed; 0 after one that succeeded
	workers   []int
	old       []int // since 3.1 also the worker that serves, after a failed reload
}

// all returns every worker, old or not.
func (p processes) all() []int { return slices.Concat(p.workers, p.old) }

// parseProc reads the table (management manual 9.4): a master's line, then
// sections of workers, old workers and programs, each with a title in comment.
func parseProc(reply string) (processes, error) {
	var p processes
	if _, err := eachReply(reply, 1); err != nil { // else there may be more workers
		return processes{}, fmt.Errorf("show proc: %w", err)
	}
	section := &p.workers
	for line := range strings.Lines(reply) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case line == "# workers":
			section = &p.workers
		case line == "# old workers":
			section = &p.old
		case strings.HasPrefix(line, "# "): // programs, old programs
			section = nil
		case strings.HasPrefix(line, "#<PID>"):
		case section == nil:
		default:
			if err := p.add(line, section); err != nil {
				return processes{}, fmt.Errorf("show proc: %w in %s", err, excerpt(line))
			}
		}
	}
	if p.masterPID == 0 {
		return processes{}, fmt.Errorf("show proc: %w: no master in %s", ErrUnexpectedReply, excerpt(reply))
	}
	return p, nil
}

// add reads "PID type reloads [failed: N] uptime version"; the bracket stands
// in the master's line only, since 2.5.
func (p *processes) add(line string, section *[]int) error {
	failed := 0
	if before, rest, found := strings.Cut(line, "[failed:"); found {
		count, after, closed := strings.Cut(rest, "]")
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if !closed || err != nil || n < 0 {
			return fmt.Errorf("%w: number of failed reloads", ErrUnexpectedReply)
		}
		failed, line = n, before+" "+after
	}
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return fmt.Errorf("%w: %d fields", ErrUnexpectedReply, len(fields))
	}
	pid, errPID := strconv.Atoi(fields[0])
	reloads, errReloads := strconv.Atoi(fields[2])
	if errPID != nil || errReloads != nil || pid <= 0 || reloads < 0 {
		return fmt.Errorf("%w: process id or reloads", ErrUnexpectedReply)
	}
	if fields[1] == "master" {
		p.masterPID, p.reloads, p.failed = pid, reloads, failed
		return nil
	}
	*section = append(*section, pid)
	return nil
}

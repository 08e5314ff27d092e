package haproxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// info is what is used of the reply to `show info`.
type info struct {
	pid     int
	version string
	uptime  time.Duration // to the second
}

// parseInfo reads lines of "Name: value" and ignores the names it does not
// know. Pid and Version must be there.
func parseInfo(reply string) (info, error) {
	var i info
	for line := range strings.Lines(reply) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found {
			continue
		}
		switch name {
		case "Pid":
			pid, err := strconv.Atoi(value)
			if err != nil || pid <= 0 {
				return info{}, fmt.Errorf("show info: Pid %q: not a process id", value)
			}
			i.pid = pid
		case "Version":
			i.version = value
		case "Uptime_sec":
			seconds, err := strconv.ParseInt(value, 10, 32)
			if err != nil || seconds < 0 {
				return info{}, fmt.Errorf("show info: Uptime_sec %q: not a number of seconds", value)
			}
			i.uptime = time.Duration(seconds) * time.Second
		}
	}
	if i.pid == 0 || i.version == "" {
		return info{}, fmt.Errorf("show info: %w, without Pid or Version: %s", ErrUnexpectedReply, excerpt(reply))
	}
	return i, nil
}

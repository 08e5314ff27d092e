package haproxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// refused is the error of a file that HAProxy has not loaded, of which its log
// tells.
func refused(log []string) *ReloadError {
	if slices.ContainsFunc(log, func(line string) bool { return strings.Contains(line, cannotListen) }) {
		return &ReloadError{Reason: plan.ErrListen.Error(), Log: log, CannotListen: true}
	}
	return &ReloadError{Reason: "HAProxy rejected its file", Log: log}
}

// cannotListen is in HAProxy's last words about addresses that it could not
// bind, all at once: `haproxy -c` does not try them.
const cannotListen = "Some protocols failed to start their listeners"

// ReloadError is a reload after which no new worker runs what was wanted. The
// old worker still serves.
type ReloadError struct {
	// Reason says what went wrong, in a few words.
	Reason string
	// Log is what HAProxy, or the reload command, had to say: its own lines,
	// at most maxLog of them. HAProxy 2.6 tells nothing here, only its log.
	Log []string
	// Err is the cause, if there is one beside HAProxy's words.
	Err error
	// CannotListen is true if the new worker could not bind what its file has,
	// and if that cannot be excluded. The error wraps plan.ErrListen then.
	CannotListen bool

	otherConfiguration bool // it is errOtherConfiguration
}

// errOtherConfiguration: the new worker runs something else than what is wanted.
var errOtherConfiguration = errors.New("new worker runs another configuration")

// Is reports whether the error is of that kind.
func (e *ReloadError) Is(kind error) bool {
	return e.otherConfiguration && kind == errOtherConfiguration
}

// Error returns the reason and HAProxy's first alert.
func (e *ReloadError) Error() string {
	text := "haproxy: reload: " + e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if alert := e.alert(); alert != "" {
		text += ": " + alert
	}
	return text
}

func (e *ReloadError) Unwrap() []error {
	if e.CannotListen {
		return []error{plan.ErrListen, e.Err}
	}
	return []error{e.Err}
}

// Words is what HAProxy had to say, a line each.
func (e *ReloadError) Words() string { return strings.Join(e.Log, "\n") }

// alert is the first line that HAProxy marks as one, else the last line.
func (e *ReloadError) alert() string {
	for _, line := range e.Log {
		if strings.HasPrefix(line, "[ALERT]") {
			return line
		}
	}
	if n := len(e.Log); n > 0 {
		return e.Log[n-1]
	}
	return ""
}

// Bounds of what an error carries.
const (
	maxLog     = 50  // lines
	maxLogLine = 500 // bytes
)

// logLines cuts text into lines that are safe to print.
func logLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.Map(printable, strings.TrimSpace(line))
		if line == "" || line == "--" {
			continue
		}
		if len(lines) == maxLog {
			return append(lines, fmt.Sprintf("… more than %d lines", maxLog))
		}
		if len(line) > maxLogLine {
			line = line[:maxLogLine] + "…"
		}
		lines = append(lines, line)
	}
	return lines
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

package render

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// BindError is a file that a new worker could not listen for.
type BindError struct {
	words []string // of HAProxy, as it would have them
}

func (e *BindError) Error() string {
	return "render: a new worker could not bind: " + strings.Join(e.words, "; ")
}

// Words is what HAProxy would say, a line each.
func (e *BindError) Words() string { return "[ALERT] " + strings.Join(e.words, "\n[ALERT] ") }

// Bindable tries what a content has HAProxy listen on beyond what runs has,
// which is loaded by the worker with that process id. It gives a *BindError
// with all that is in use or not on this machine.
//
// `haproxy -c` does not try that, and a reload is no way to find it out: while
// a new worker cannot bind one address, for 2 s, the old one has to release
// of all of its own, and clients are refused (2.6 to 3.4, seen). What can't be
// tried is passed: HAProxy's network is another one, it may bind what we may
// not, or it has the port itself.
func (f *File) Bindable(content, runs []byte, pid int) error {
	if len(runs) == 0 || !sharesNetwork(pid) {
		return nil
	}
	held, whole := binds(runs)
	wanted, _ := binds(content)
	var e BindError
	for _, b := range wanted {
		has := func(h bind) bool { return h.at.Port() == b.at.Port() }
		if !b.plain || b.remote || slices.ContainsFunc(held, has) {
			continue
		}
		inUse, err := tryBind(b)
		if err == nil || inUse && !whole {
			continue
		}
		e.words = append(e.words, fmt.Sprintf("Binding [%s:%d] for %s %s: cannot bind socket (%v) for [%s]", f.path, b.line, b.section.kind, b.section.name, err, b.words))
	}
	if len(e.words) > 0 {
		return &e
	}
	return nil
}

// sharesNetwork reports whether a process is a HAProxy in this network. Its
// number may be another program's here, if it is in another container.
func sharesNetwork(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil || !strings.HasPrefix(string(name), "haproxy") {
		return false
	}
	// Each network has files of its own here, and anybody may look at them;
	// /proc/PID/ns/net only its user may.
	theirs, err := os.Stat(filepath.Join(dir, "net", "tcp"))
	if err != nil {
		return false
	}
	ours, err := os.Stat("/proc/self/net/tcp")
	return err == nil && os.SameFile(theirs, ours)
}

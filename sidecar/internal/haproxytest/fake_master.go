package haproxytest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// masterLine executes a line that was sent to the master.
func (f *Fake) masterLine(line string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out strings.Builder
	for part := range strings.SplitSeq(line, ";") {
		part = strings.TrimSpace(part)
		target, command, _ := strings.Cut(part, " ")
		switch {
		case part == "show proc":
			f.log = append(f.log, part)
			out.WriteString(f.showProc())
		case part == "reload":
			f.log = append(f.log, part)
			out.WriteString(f.reload())
		case strings.HasPrefix(target, "@"):
			w := f.target(target)
			if w == nil {
				fmt.Fprintf(&out, "Can't find the target PID matching the prefix '%s'\n\n", target)
				continue
			}
			w.settle()
			f.log = append(f.log, part)
			if strings.HasPrefix(command, "wait ") {
				out.WriteString("Interrupted.\n\n") // its input side has ended
				continue
			}
			out.WriteString(f.run(w, command))
		default:
			out.WriteString(unknownCommand)
		}
	}
	return out.String()
}

func (f *Fake) target(prefix string) *FakeWorker {
	pid, byPID := strings.CutPrefix(prefix, "@!")
	if !byPID {
		return f.worker
	}
	for _, w := range append([]*FakeWorker{f.worker}, f.old...) {
		if strconv.Itoa(w.PID) == pid {
			return w
		}
	}
	return nil
}

func (f *Fake) showProc() string {
	var out strings.Builder
	row := func(pid int, kind, reloads string, started time.Time) {
		age := int(time.Since(started).Seconds())
		fmt.Fprintf(&out, "%-15d %-15s %-15s 0d%02dh%02dm%02ds     %s\n", pid, kind, reloads, age/3600, age/60%60, age%60, f.profile.Version)
	}
	out.WriteString("#<PID>          <type>          <reloads>       <uptime>        <version>      \n")
	row(fakeMasterPID, "master", fmt.Sprintf("%d [failed: %d]", f.reloads, f.failed), f.worker.started)
	old := slices.Clone(f.old)
	out.WriteString("# workers\n")
	if f.failed > 0 && f.profile.FailedIsOld {
		old = append([]*FakeWorker{f.worker}, old...)
	} else {
		row(f.worker.PID, "worker", strconv.Itoa(f.worker.reloads), f.worker.started)
	}
	if len(old) > 0 {
		out.WriteString("# old workers\n")
		for _, w := range old {
			row(w.PID, "worker", strconv.Itoa(w.reloads), w.started)
		}
	}
	if !f.profile.FailedIsOld {
		out.WriteString("# programs\n")
	}
	out.WriteString("\n")
	return out.String()
}

// reload replaces the worker. The one that served is an old one if it still
// has sessions, else it ends.
func (f *Fake) reload() string {
	next, log := f.worker.Again(), ""
	if f.onReload != nil {
		next, log = f.onReload(*f.worker)
	}
	f.reloads++
	if next == nil {
		f.failed++
		f.worker.reloads++
		return f.reloadResult(0, log)
	}
	f.failed = 0
	if f.worker.busy() {
		f.worker.reloads++
		f.old = append(f.old, f.worker)
	}
	next.PID = f.nextPID
	f.nextPID++
	next.number(time.Now())
	f.worker = next
	return f.reloadResult(1, log)
}

func (f *Fake) reloadResult(success int, log string) string {
	if !f.profile.SyncReload {
		return "\n"
	}
	return fmt.Sprintf("Success=%d\n--\n%s\n", success, log)
}

// Again is a new worker that runs the same, without sessions.
func (w *FakeWorker) Again() *FakeWorker {
	again := &FakeWorker{Marker: w.Marker}
	for _, b := range w.Backends {
		copied := &FakeBackend{Name: b.Name, Static: b.Static}
		for _, s := range b.Servers {
			server := *s
			server.Sessions, server.Queued, server.Attached = 0, 0, 0
			copied.Servers = append(copied.Servers, &server)
		}
		again.Backends = append(again.Backends, copied)
	}
	return again
}

func (w *FakeWorker) busy() bool {
	for _, b := range w.Backends {
		for _, s := range b.Servers {
			if s.Sessions > 0 {
				return true
			}
		}
	}
	return false
}

package haproxytest

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fake is a HAProxy that is none: a master and its workers behind two unix
// sockets, with the state that the runtime API shows and changes. It knows the
// commands of this project and answers them as the profile's version does.
type Fake struct {
	tb      testing.TB
	dir     string
	profile Profile

	mu        sync.Mutex
	worker    *FakeWorker   // the one that serves
	old       []*FakeWorker // those that finish what they have
	nextPID   int
	reloads   int
	failed    int
	onReload  func(now FakeWorker) (*FakeWorker, string) // the new worker, or nil and the log
	faults    []Fault
	log       []string // every command that was executed, with its target
	lines     []string // every line that came to the runtime socket and was executed
	listeners map[string]net.Listener
	conns     map[net.Conn]bool
	wg        sync.WaitGroup
}

// fakeMasterPID is the process id that a Fake's master says it has.
const fakeMasterPID = 100

// NewFake starts a Fake that runs these backends. The test's end stops it.
func NewFake(tb testing.TB, profile Profile, backends ...*FakeBackend) *Fake {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		tb.Fatalf("directory for the fake HAProxy: %v", err)
	}
	f := &Fake{
		tb: tb, dir: dir, profile: profile, nextPID: fakeMasterPID + 2,
		worker:    &FakeWorker{PID: fakeMasterPID + 1, Backends: backends},
		listeners: map[string]net.Listener{}, conns: map[net.Conn]bool{},
	}
	f.worker.number(time.Now())
	f.listen(f.Runtime(), f.serveWorker)
	f.listen(f.Master(), f.serveMaster)
	tb.Cleanup(func() {
		f.Stop()
		_ = os.RemoveAll(dir)
	})
	return f
}

// Runtime is the path of the worker's runtime socket.
func (f *Fake) Runtime() string { return filepath.Join(f.dir, "r.sock") }

// Master is the path of the master's socket.
func (f *Fake) Master() string { return filepath.Join(f.dir, "m.sock") }

// Stop closes everything and leaves dead sockets, as kill -9 does.
func (f *Fake) Stop() {
	f.CloseRuntime()
	f.close(f.Master())
	f.mu.Lock()
	for conn := range f.conns {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// CloseRuntime leaves a dead runtime socket, as a reload of 3.1 or newer does
// that fails to bind.
func (f *Fake) CloseRuntime() { f.close(f.Runtime()) }

// Change lets the caller change what the serving worker runs.
func (f *Fake) Change(change func(*FakeWorker)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.worker)
}

// AddOldWorker adds a worker that finishes what it has.
func (f *Fake) AddOldWorker(w *FakeWorker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.number(time.Now())
	w.reloads = 1
	f.old = append(f.old, w)
}

// OnReload says what the next reloads bring: a new worker, or nil and
// HAProxy's log lines if the reload fails.
func (f *Fake) OnReload(next func(now FakeWorker) (*FakeWorker, string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onReload = next
}

// Fail lets the next exchanges fail in this way, one each.
func (f *Fake) Fail(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

// Commands returns every command that was executed, those by the master with
// their "@…" before them.
func (f *Fake) Commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.log...)
}

// Lines returns every line that the runtime socket has executed, as it came.
func (f *Fake) Lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.lines...)
}

func (f *Fake) listen(path string, serve func(net.Conn)) {
	listener, err := net.Listen("unix", path) //nolint:noctx // it does not block
	if err != nil {
		f.tb.Fatalf("fake HAProxy: %v", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // a dead socket stays, as HAProxy's does
	f.mu.Lock()
	f.listeners[path] = listener
	f.mu.Unlock()
	f.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.track(conn, true)
			f.wg.Go(func() {
				defer f.track(conn, false)
				serve(conn)
			})
		}
	})
}

func (f *Fake) close(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if listener := f.listeners[path]; listener != nil {
		_ = listener.Close()
		awaitDead(path)
	}
}

// LeaveSocket makes the file of a socket on which no process listens.
func LeaveSocket(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	err = l.Close()
	awaitDead(path)
	return err
}

// awaitDead waits until a closed socket takes no connection: while another test begins a
// process, that has a copy of it for a moment.
func awaitDead(path string) {
	for {
		conn, err := net.Dial("unix", path) //nolint:noctx // it does not block
		if err != nil {
			return
		}
		_ = conn.Close()
		time.Sleep(time.Millisecond)
	}
}

func (f *Fake) track(conn net.Conn, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open {
		f.conns[conn] = true
		return
	}
	delete(f.conns, conn)
	_ = conn.Close()
}

// serveWorker answers one connection to the runtime socket and closes it.
func (f *Fake) serveWorker(conn net.Conn) {
	f.exchange(conn, func(line string) string {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lines = append(f.lines, line)
		return f.runLine(f.worker, line)
	})
}

// serveMaster answers one connection to the master's socket. The master does
// not close it before the other side has ended its own.
func (f *Fake) serveMaster(conn net.Conn) {
	if f.exchange(conn, f.masterLine) {
		_, _ = io.Copy(io.Discard, conn) // until the other side ends it
	}
}

// exchange reads a line and answers it by way of the next fault. whole is
// false if there was one, or no line.
func (f *Fake) exchange(conn net.Conn, answer func(string) string) (whole bool) {
	fault := f.nextFault()
	if fault == Refuse {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return false // a line without its end is ignored
	}
	line = strings.TrimSuffix(line, "\n")
	switch fault {
	case Hang:
		_, err = io.Copy(io.Discard, conn) // until it is closed, by either side
	case CloseEarly:
	case Garbage:
		_, err = io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\nwhat?\n")
	case HalfReply:
		reply := answer(line)
		_, err = io.WriteString(conn, reply[:len(reply)/2])
	case LostReply:
		answer(line)
	case BreakAfterFirst:
		first, _, _ := strings.Cut(line, ";")
		_, err = io.WriteString(conn, answer(first))
	default:
		_, err = io.WriteString(conn, answer(line))
	}
	return fault == 0 && err == nil
}

func (f *Fake) nextFault() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) == 0 {
		return 0
	}
	fault := f.faults[0]
	f.faults = f.faults[1:]
	return fault
}

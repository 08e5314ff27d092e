//go:build linux

package main_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager hears what a service manager does: of the main process alone, as
// systemd by NotifyAccess=main.
type manager struct {
	path string
	conn *net.UnixConn

	mu    sync.Mutex
	heard []string // by the main process, a line each
	main  int      // its pid, once it is known
	other []string // by others
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify")}
	var err error
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var errSet error
	if err := raw.Control(func(fd uintptr) {
		errSet = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
	}); err != nil || errSet != nil {
		t.Fatal(err, errSet)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.listen(t)
	}()
	t.Cleanup(func() {
		_ = m.conn.Close()
		<-done
	})
	return m
}

func (m *manager) listen(t *testing.T) {
	text, control := make([]byte, 4096), make([]byte, 4096)
	for {
		size, controlSize, _, _, err := m.conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		messages, err := syscall.ParseSocketControlMessage(control[:controlSize])
		if err != nil || len(messages) == 0 {
			t.Errorf("no credentials: %v", err)
			return
		}
		from, err := syscall.ParseUnixCredentials(&messages[0])
		if err != nil {
			t.Error(err)
			return
		}
		m.mu.Lock()
		lines := strings.Split(string(text[:size]), "\n")
		if int(from.Pid) == m.main {
			m.heard = append(m.heard, lines...)
		} else {
			m.other = append(m.other, lines...)
		}
		m.mu.Unlock()
	}
}

// isMain says who the main process is. It has to be known before it speaks.
func (m *manager) isMain(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.main = pid
}

func (m *manager) has(line string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.heard, line)
}

// start starts a wrapper under the manager, by a shell that becomes it: its pid
// is known before it speaks.
func (m *manager) start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := command(t, append(env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=5000000"))
	p.Cmd.Path = "/bin/sh"
	p.Cmd.Args = append([]string{"sh", "-c", `read -r go; WATCHDOG_PID=$$ exec "$@" </dev/null`, "sh", wrapper.Path}, args...)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Cmd.Stdin = in
	p.start()
	m.isMain(p.PID())
	_ = in.Close()
	if _, err := out.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	return p
}

func TestNotify_ProgramSpeaks_WrapperSaysItForIt(t *testing.T) {
	c, m := sharedConsul(t), newManager(t)
	port := freePort(t)
	id := "notify-" + strconv.Itoa(port)
	healthy := filepath.Join(t.TempDir(), "healthy")
	flags := []string{"--id", id, "--check", "http:/healthz", "--leave-wait", "500ms"}
	p := m.start(t, c.env(), wrap(port, flags, "--healthy", healthy, "--notify")...)
	eventually(t, "what the program says", func() bool { return m.has("STATUS=the program speaks") })
	if got := p.said("watchdog"); got == "0s" {
		t.Error("the program takes its watchdog for off")
	}
	p.logs("status 503")
	if m.has("READY=1") {
		t.Error("it is called ready before its check passes")
	}
	if err := os.WriteFile(healthy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "READY=1", func() bool { return m.has("READY=1") })
	eventually(t, "status", func() bool { return m.has("STATUS=registered in Consul as " + id) })

	p.Signal(syscall.SIGHUP)
	eventually(t, "RELOADING=1, and READY=1 again", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.Index(m.heard, "RELOADING=1")
		return i >= 0 && slices.Contains(m.heard[i:], "READY=1")
	})

	p.Signal(syscall.SIGTERM)
	eventually(t, "STOPPING=1", func() bool { return m.has("STOPPING=1") })
	if strings.Contains(p.Stdout.String(), "got SIGTERM") {
		t.Error("STOPPING=1 is said only when the program hears of it")
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.other) > 0 || slices.ContainsFunc(m.heard, func(s string) bool { return strings.HasPrefix(s, "MAINPID") }) {
		t.Errorf("by the main process %q, by others %q, want all by the first and no MAINPID", m.heard, m.other)
	}
}

// Programs that know nothing of it are ready, too, and Consul may be away.
func TestNotify_ProgramSilentAndNoConsul_Ready(t *testing.T) {
	m := newManager(t)
	p := m.start(t, nil, wrap(freePort(t), []string{"--leave-wait", "1ms"})...)
	eventually(t, "READY=1", func() bool { return m.has("READY=1") })
	p.Signal(syscall.SIGTERM)
	p.wait()
}

// A manager that does not read, or is gone, holds up nothing.
func TestNotify_ManagerGone_ProgramRuns(t *testing.T) {
	m := newManager(t)
	began := time.Now()
	p := m.start(t, nil, wrap(freePort(t), []string{"--leave-wait", "1ms"}, "--notify", "--code", "3")...)
	eventually(t, "READY=1", func() bool { return m.has("READY=1") })
	_ = m.conn.Close()
	p.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 3 {
		t.Errorf("exit code %d, want the program's", code)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	p.logs("notify the service manager")
}

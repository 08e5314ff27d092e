package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// serviceManager is systemd as a sidecar sees it: a socket to notify.
type serviceManager struct {
	path string

	mu    sync.Mutex
	heard []string
}

func newServiceManager(w *world) *serviceManager {
	w.Helper()
	m := &serviceManager{path: w.Path("notify.sock")}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	w.must(err)
	done := make(chan struct{})
	w.Cleanup(func() { _ = socket.Close(); <-done })
	go func() {
		defer close(done)
		for buffer := make([]byte, 4096); ; {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.heard = append(m.heard, strings.Split(string(buffer[:n]), "\n")...)
			m.mu.Unlock()
		}
	}()
	return m
}

// count returns how many lines with this beginning it has heard.
func (m *serviceManager) count(prefix string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, line := range m.heard {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (m *serviceManager) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

func (m *serviceManager) hears(w *world, prefix string, times int) {
	w.Helper()
	w.must(lab.Until(w.ctx, 20*time.Second, "systemd hears "+prefix, func() error {
		if got := m.count(prefix); got < times {
			return fmt.Errorf("%d times, want %d; it heard:\n%s", got, times, strings.Join(m.all(), "\n"))
		}
		return nil
	}))
}

// Under systemd's Type=notify the sidecar is started when it is ready, and says
// when it reads its settings again, that it lives, how it does, and that it stops.
func TestSystemd_NotifyService_HearsReadyReloadingWatchdogAndStopping(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	m := newServiceManager(w)
	w.lb.SetEnviron("NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	w.must(w.lb.StartSidecar())
	m.hears(w, "STATUS=not ready; 1 service", 1)
	m.hears(w, "WATCHDOG=1", 3)
	// Settings that are read again before it is ready do not make it so.
	w.must(w.lb.Reread())
	w.logged("configuration reloaded")
	if heard := m.all(); slices.Contains(heard, "READY=1") || slices.Contains(heard, "RELOADING=1") {
		t.Errorf("without HAProxy it said:\n%s", strings.Join(heard, "\n"))
	}
	w.must(w.lb.StartHAProxy(w.ctx))
	m.hears(w, "READY=1", 1)
	w.nodes = w.startNodes("1.0", "n", 2)
	m.hears(w, "STATUS=ready; 1 service, 2 of 2 servers up, file current", 1)

	w.must(w.lb.Reread())
	m.hears(w, "READY=1", 2)
	heard := m.all()
	if at := slices.Index(heard, "RELOADING=1"); at < 0 || !strings.HasPrefix(heard[at+1], "MONOTONIC_USEC=") || !slices.Contains(heard[at:], "READY=1") {
		t.Errorf("settings were read again, and it said:\n%s", strings.Join(heard, "\n"))
	}

	// A loop that hangs lets systemd's watchdog end the process: it says nothing.
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	m.hears(w, "STOPPING=1", 1)
}

// What Consul shows as the output of the sidecar's check says how it does.
func TestConsul_OutputOfSidecarsCheck_SaysHowItDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.must(lab.Until(w.ctx, 20*time.Second, "Consul shows how the sidecar does", func() error {
		checks, err := w.consul.Client.Agent().Checks()
		if err != nil {
			return err
		}
		for _, c := range checks {
			if c.ServiceID == "pointsman-sidecar-lb0" && strings.Contains(c.Output, "ready; 1 service, 2 of 2 servers up, file current") {
				return nil
			}
		}
		return fmt.Errorf("the checks: %+v", checks)
	}))
}

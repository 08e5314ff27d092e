// Package notify speaks to the service manager for the program, as sd_notify(3)
// describes it. Under systemd only the main process is heard (NotifyAccess=main),
// and that is the wrapper: what the program says would be lost, and a program
// that made itself the main process (MAINPID=) would be sent the signals that
// the wrapper is to get.
//
// Its invariants: READY=1 is said once the program is ready, whatever it says
// before; and nothing of the program's reaches the manager that would take the
// wrapper's place.
//
// Only the wrapper's wiring in cli imports it.
package notify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	socketVariable = "NOTIFY_SOCKET"
	// watchdogVariable names the process that is to give signs of life: ours, to
	// the manager. Without it the program takes itself for the one.
	watchdogVariable = "WATCHDOG_PID"
)

// Notifier speaks to a service manager. A nil one has none to speak to.
type Notifier struct {
	manager *net.UnixConn
	program *net.UnixConn // on which the program speaks to us; nil if it speaks to the manager
	dir     string        // of its socket
	log     hclog.Logger
	done    chan struct{}

	mu    sync.Mutex
	ready bool // READY=1 has been said
}

// Open finds the service manager that the environment names, and gives the
// environment for the program, in which we are it. Without one it gives nil.
func Open(environ []string, log hclog.Logger) (*Notifier, []string, error) {
	i := slices.IndexFunc(environ, func(e string) bool { return strings.HasPrefix(e, socketVariable+"=") })
	if i < 0 {
		return nil, environ, nil
	}
	_, path, _ := strings.Cut(environ[i], "=")
	if path == "" {
		return nil, environ, nil
	}
	if path[0] != '/' && path[0] != '@' {
		return nil, environ, fmt.Errorf("%s=%q: want a path, or @ and a name", socketVariable, path)
	}
	manager, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, environ, fmt.Errorf("%s: %w", socketVariable, err)
	}
	n := &Notifier{manager: manager, log: log, done: make(chan struct{})}
	if err := n.listen(); err != nil {
		log.Warn("program notifies systemd itself, message may be ignored", "error", err)
		close(n.done)
		return n, environ, nil
	}
	go n.relay()
	environ = slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		return strings.HasPrefix(e, socketVariable+"=") || strings.HasPrefix(e, watchdogVariable+"=")
	})
	return n, append(environ, socketVariable+"="+n.program.LocalAddr().String()), nil
}

// listen makes the socket that the program speaks to.
func (n *Notifier) listen() error {
	dir, err := os.MkdirTemp("", "registrator-")
	if err != nil {
		return err
	}
	n.program, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	n.dir = dir
	return nil
}

// maxMessage is what the manager takes (systemd, NOTIFY_BUFFER_MAX).
const maxMessage = 4096

// relay passes on what the program says, until Close. A file descriptor that
// comes with it is closed by the kernel, which is the answer to BARRIER=1.
func (n *Notifier) relay() {
	defer close(n.done)
	buffer := make([]byte, maxMessage)
	for {
		size, err := n.program.Read(buffer)
		if err != nil {
			return
		}
		if text := n.passes(string(buffer[:size])); text != "" {
			n.send(text)
		}
	}
}

// passes returns what of a message of the program's goes to the manager.
func (n *Notifier) passes(message string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := slices.DeleteFunc(strings.Split(message, "\n"), func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		switch key {
		case "READY":
			return !n.ready // the wrapper says it, once the checks pass
		case "", "MAINPID", "MAINPIDFD", "MAINPIDFDID", "FDSTORE", "FDSTOREREMOVE", "FDNAME", "FDPOLL", "BARRIER":
			return true
		}
		return false
	})
	return strings.Join(lines, "\n")
}

// Ready says that the program is ready.
func (n *Notifier) Ready() {
	if n == nil {
		return
	}
	n.mu.Lock()
	n.ready = true
	n.mu.Unlock()
	n.send("READY=1\nSTATUS=ready")
}

// Stopping says that the program is about to stop.
func (n *Notifier) Stopping() {
	if n != nil {
		n.send("STOPPING=1\nSTATUS=leaving, until no load balancer has sessions on it")
	}
}

// Status says in words how it is.
func (n *Notifier) Status(text string) {
	if n != nil {
		n.send("STATUS=" + strings.ReplaceAll(text, "\n", " "))
	}
}

// sendLimit bounds a message: a manager that does not read must not hold us up.
const sendLimit = time.Second

func (n *Notifier) send(text string) {
	err := n.manager.SetWriteDeadline(time.Now().Add(sendLimit))
	if err == nil {
		_, err = n.manager.Write([]byte(text))
	}
	if err != nil {
		n.log.Warn("notify the service manager", "error", err)
	}
}

// Close ends the passing on.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	if n.program != nil {
		_ = n.program.Close() // nothing is written to it
	}
	<-n.done
	_ = n.manager.Close()
	if n.dir != "" {
		_ = os.RemoveAll(n.dir) // a temporary directory
	}
}

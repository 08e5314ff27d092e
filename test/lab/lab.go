// Package lab starts the real programs as processes on free loopback ports:
// Consul, HAProxy with its sidecar, API nodes and clients. `make demo` and the
// end-to-end tests stand on it.
//
// Its invariant: what it starts, it ends, by pid; Close leaves nothing
// running. It knows our programs by their binaries, HTTP APIs and settings
// only, and imports no other package of ours except the public client of an API.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Config says what a lab is made of.
type Config struct {
	Programs Programs
	// Dir is where sockets, files and logs go; "" makes a temporary one that
	// Close removes. Its path must be short: a unix socket's has 107 bytes.
	Dir string
	// Log gets one line for each thing that starts and ends; nil: nowhere.
	Log io.Writer
}

// Lab is a set of running processes. Its methods may be called by several
// goroutines.
type Lab struct {
	programs Programs
	dir      string
	ownDir   bool
	log      io.Writer
	http     *http.Client
	sidecars *sidecarapi.Client
	started  time.Time

	mu        sync.Mutex
	processes []*Process // in the order started
}

// New makes a lab in which nothing runs yet.
func New(cfg Config) (*Lab, error) {
	l := &Lab{
		programs: cfg.Programs, dir: cfg.Dir, log: cfg.Log, started: time.Now(),
		http: &http.Client{Timeout: 10 * time.Second}, sidecars: sidecarapi.New(sidecarapi.Options{}),
	}
	if l.log == nil {
		l.log = io.Discard
	}
	if l.dir == "" {
		dir, err := os.MkdirTemp("", "pm-lab-")
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		l.dir, l.ownDir = dir, true
	}
	return l, nil
}

// Dir is where the lab's files are.
func (l *Lab) Dir() string { return l.dir }

// Path returns the path of a file of the lab.
func (l *Lab) Path(name string) string { return filepath.Join(l.dir, name) }

// Close ends what still runs, the last started first, and removes a directory
// of its own. Each process has two seconds before it is killed.
func (l *Lab) Close() error {
	l.mu.Lock()
	processes := slices.Clone(l.processes)
	l.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(processes) {
		if p.Running() {
			p.signal(os.Interrupt)
		}
	}
	deadline := time.Now().Add(2 * time.Second)
	for _, p := range slices.Backward(processes) {
		if !p.waitUntil(deadline) {
			errs = append(errs, p.Kill())
		}
	}
	l.http.CloseIdleConnections()
	if l.ownDir {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// Tails returns the last lines of every process's log.
func (l *Lab) Tails(lines int) string {
	l.mu.Lock()
	processes := slices.Clone(l.processes)
	l.mu.Unlock()
	var b strings.Builder
	seen := map[string]bool{}
	for _, p := range processes {
		if !seen[p.Log] {
			seen[p.Log] = true
			fmt.Fprintf(&b, "---- %s\n%s\n", p.Name, p.Tail(lines))
		}
	}
	return b.String()
}

// logf writes one line with the time since the lab began.
func (l *Lab) logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.log, "%6.1fs  %s\n", time.Since(l.started).Seconds(), fmt.Sprintf(format, args...)) // a log that can't be written stops no lab
}

// Pause waits for a time; the error is the cause if ctx ends before.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}

// Until polls a fact until it is true, and fails with the last reason why it
// is not once the time is over.
func Until(ctx context.Context, limit time.Duration, what string, fact func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fact()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lab: %s: not within %s: %w", what, limit, errors.Join(err, context.Cause(ctx)))
		case <-tick.C:
		}
	}
}

package reconcile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// fakeContent is what a fakeRenderer writes and a fakeHAProxy loads.
type fakeContent struct {
	Mark     string // as lastGood looks for it
	Marker   plan.Marker
	Routes   string `json:",omitempty"`
	Backends []plan.FileBackend
}

type fakeRenderer struct {
	marker plan.Marker
	routes string
	err    error
}

func (r *fakeRenderer) Marker() plan.Marker { return r.marker }

func (r *fakeRenderer) Render(backends []plan.FileBackend) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	m := r.marker
	return json.Marshal(fakeContent{m.String(), m, r.routes, backends})
}

// fakeFile is haproxy.cfg.
type fakeFile struct {
	mu       sync.Mutex
	content  []byte
	reject   func(content []byte) error
	invalid  error         // of Check
	hold     chan struct{} // Write waits until it is closed; nil: it does not wait
	bindable func(content []byte) error
	tries    int
	written  []time.Time // each change of the content
	restored []error

	onRestore func()
}

var _ reconcile.File = (*fakeFile)(nil)

func (f *fakeFile) Path() string { return "/etc/haproxy/haproxy.cfg" }

func (f *fakeFile) Exists() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content != nil, nil
}

func (f *fakeFile) Read() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.content), nil
}

func (f *fakeFile) Write(ctx context.Context, content []byte) (bool, error) {
	f.wait(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if bytes.Equal(content, f.content) {
		return false, nil
	}
	if f.reject != nil {
		if err := f.reject(content); err != nil {
			return false, err
		}
	}
	f.content = content
	f.written = append(f.written, time.Now())
	return true, nil
}

// wait is a disk or a check command that takes long.
func (f *fakeFile) wait(ctx context.Context) {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold == nil {
		return
	}
	select {
	case <-hold:
	case <-ctx.Done():
	}
}

// Try rejects as Write does.
func (f *fakeFile) Try(ctx context.Context, content []byte) error {
	f.wait(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if f.reject != nil {
		return f.reject(content)
	}
	return nil
}

// Bindable knows what HAProxy runs, and which process that is.
func (f *fakeFile) Bindable(content, runs []byte, pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bindable == nil || len(runs) == 0 || pid == 0 {
		return nil
	}
	return f.bindable(content)
}

func (f *fakeFile) Check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.invalid
}

func (f *fakeFile) Restore(content []byte, because error) error {
	f.mu.Lock()
	f.content = content
	f.restored = append(f.restored, because)
	then := f.onRestore
	f.mu.Unlock()
	if then != nil {
		then()
	}
	return nil
}

// with changes it from outside.
func (f *fakeFile) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeFile) writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.written)
}

// shows returns the enabled servers of a backend in the file, and who rendered it.
func (f *fakeFile) shows(backend string) (servers []string, template string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var c fakeContent
	if err := json.Unmarshal(f.content, &c); err != nil {
		return []string{err.Error()}, ""
	}
	for _, b := range c.Backends {
		for _, s := range b.Servers {
			if b.Backend == backend && !s.Disabled {
				servers = append(servers, s.Name+" "+s.Addr.String())
			}
		}
	}
	return servers, c.Marker.Template
}

// fakeCatalog is what Consul says.
type fakeCatalog struct {
	mu      sync.Mutex
	snap    catalog.Snapshot
	health  map[string]catalog.SourceHealth
	changes catalog.Changes
	changed chan struct{}

	afterSnapshot func() // once, when a caller has asked
}

var _ reconcile.Catalog = (*fakeCatalog)(nil)

func newFakeCatalog() *fakeCatalog {
	return &fakeCatalog{health: map[string]catalog.SourceHealth{}, changed: make(chan struct{}, 1)}
}

func (c *fakeCatalog) Snapshot() catalog.Snapshot {
	c.mu.Lock()
	snap, after := c.snap, c.afterSnapshot
	c.afterSnapshot = nil
	c.mu.Unlock()
	if after != nil {
		after()
	}
	return snap
}

func (c *fakeCatalog) Health(service string) catalog.SourceHealth {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health[service]
}

func (c *fakeCatalog) News(seen uint64, each func(service string, changed time.Time)) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes.Since(seen, func(service string) { each(service, c.health[service].Changed) })
}

// fails is that Consul is away.
func (c *fakeCatalog) fails(service string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.health[backendOf(service)]
	h.Err = err
	c.health[backendOf(service)] = h
}

func (c *fakeCatalog) Changed() <-chan struct{} { return c.changed }

// says is Consul's answer about one service.
func (c *fakeCatalog) says(service string, instances ...catalog.Instance) {
	c.answers(catalog.Service{Name: service, Known: true, Instances: instances})
}

// backendOf is the backend of a service: the catalog goes by backends.
func backendOf(service string) string { return service + "_nodes" }

func (c *fakeCatalog) answers(all ...catalog.Service) {
	time.Sleep(time.Millisecond) // no two answers about a service at one moment of the bubble's time
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range all {
		s.Name = backendOf(s.Name)
		s.Index = c.snap.Service(s.Name).Index + 1
		c.snap = c.snap.With(s)
		c.health[s.Name] = catalog.SourceHealth{Answered: time.Now(), Changed: time.Now()}
		c.changes.Note(s.Name)
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// fakeRecorder keeps what it gets, a line each.
type fakeRecorder struct {
	mu     sync.Mutex
	lines  []string
	states int

	onState func(*reconcile.State)
}

var _ reconcile.Recorder = (*fakeRecorder)(nil)

func (r *fakeRecorder) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *fakeRecorder) Step(service string, s plan.Step, err error) {
	r.add("step %s %s %s: %s: %s", service, s.Kind, s.Server, s.Reason, orOK(err))
}

func (r *fakeRecorder) Reload(reason plan.ReloadReason, err error) {
	r.add("reload %s: %s", reason, orOK(err))
}
func (r *fakeRecorder) FilePutBack() { r.add("file: put back") }

func (r *fakeRecorder) FileWritten(err error) { r.add("file: %s", orOK(err)) }

func (r *fakeRecorder) Applied(service string, took time.Duration) {
	r.add("applied %s after %s", service, took)
}

func (r *fakeRecorder) State(s *reconcile.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states++
	if r.onState != nil {
		r.onState(s)
	}
}

// with changes it while the agent runs.
func (r *fakeRecorder) with(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// seen is how many states it was told.
func (r *fakeRecorder) seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states
}

func orOK(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// told returns the lines that begin so.
func (r *fakeRecorder) told(prefix string) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if len(line) >= len(prefix) && line[:len(prefix)] == prefix {
			out = append(out, line)
		}
	}
	return out
}

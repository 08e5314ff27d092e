package sim

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// table is one map of a worker, by which a frontend leads its requests.
type table struct {
	entries []route.Entry
	foreign time.Duration // when another program last changed it
}

const (
	errNoMap     reply = "Unknown map identifier. Please use #<id> or <file>."
	errNoVersion reply = "Version number in the future."
	errNoEntry   reply = "entry not found"
)

// mapFile names the map of a frontend, in HAProxy and on disk.
func mapFile(frontend string) string { return frontend + ".map" }

// backendOf is where an entry leads.
func backendOf(value string) string {
	backend, _, _ := strings.Cut(value, "/")
	return backend
}

// valuesOf returns what a map has for a key: a key may be there twice.
func valuesOf(entries []route.Entry, key string) (values []string) {
	for _, e := range entries {
		if e.Key == key {
			values = append(values, e.Value)
		}
	}
	return values
}

// sameEntries reports whether a map has just what is wanted.
func sameEntries(entries []route.Entry, want route.Table) bool {
	return len(route.UpdateOf(entries, want).Changes) == 0
}

// change takes one command as HAProxy does.
func (p *proxy) change(t *table, c route.Change) error {
	isKey := func(e route.Entry) bool { return e.Key == c.Key }
	first := slices.IndexFunc(t.entries, isKey)
	switch {
	case c.Kind == route.Add:
		t.entries = append(t.entries, route.Entry{Key: c.Key, Value: c.Value})
	case first < 0:
		return errNoEntry
	case c.Kind == route.Del && p.version().Backends: // docs/haproxy-facts.md, fact 35
		t.entries = slices.Delete(t.entries, first, first+1)
	case c.Kind == route.Del:
		t.entries = slices.DeleteFunc(t.entries, isKey)
	case c.Kind == route.Set:
		for i := range t.entries {
			if isKey(t.entries[i]) {
				t.entries[i].Value = c.Value
			}
		}
	}
	return nil
}

// leadsTo reports whether a route leads to a backend, and no other program has changed
// any.
func (wk *worker) leadsTo(backend string) bool {
	for _, t := range wk.tables {
		if t.foreign == 0 && slices.ContainsFunc(t.entries, func(e route.Entry) bool { return backendOf(e.Value) == backend }) {
			return true
		}
	}
	return false
}

var _ reconcile.Maps = link{}

// ReadMap reads what HAProxy has.
func (l link) ReadMap(ctx context.Context, file string) ([]route.Entry, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	t, err := l.tableIn(ctx, file)
	if err != nil {
		return nil, err
	}
	l.readMaps[t] = l.w.now()
	return slices.Clone(t.entries), nil
}

// FindEntry looks one key up. It tells nothing of the others.
func (l link) FindEntry(ctx context.Context, file, key string) (found route.Entry, err error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	t, err := l.tableIn(ctx, file)
	if err != nil {
		return found, err
	}
	for _, e := range t.entries {
		if strings.HasPrefix(key, e.Key) && len(e.Key) > len(found.Key) { // of two that are alike the first
			found = e
		}
	}
	return found, nil
}

func (l link) tableIn(ctx context.Context, file string) (*table, error) {
	w := l.w
	l.beginPass()
	l.checkOwed("ReadMap")
	defer l.done()
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	switch {
	case !w.proxy.running:
		l.failed = w.now()
		return nil, plan.ErrNotRunning
	case l.fails(w.trouble.unread):
		return nil, errTimeout
	case w.proxy.worker.tables[file] == nil:
		return nil, errNoMap
	}
	return w.proxy.worker.tables[file], nil
}

// UpdateMap sends one command for one change; for more it makes a new version, fills
// that, and commits it.
func (l link) UpdateMap(ctx context.Context, file string, u route.Update, want route.Table) error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l.beginPass()
	l.checkOwed("UpdateMap")
	l.calling++
	defer l.done()
	commands := 1
	if u.Replace {
		commands = 3
	}
	var version *table
	for range commands - 1 {
		t, _, err := l.sendMap(ctx, file, version)
		if err != nil {
			return err
		}
		version = t
	}
	t, isIgnored, err := l.sendMap(ctx, file, version)
	switch {
	case err != nil:
		return err
	case isIgnored:
		return nil
	}
	w.checkKept(l.sidecar, file, t, u)
	switch {
	case u.Replace:
		t.entries = slices.Clone(want)
	default:
		if err := w.proxy.change(t, u.Changes[0]); err != nil {
			return err
		}
	}
	w.note("sidecar: map %s: %v", file, t.entries)
	w.checkUpdate(l.sidecar, file, u)
	if l.fails(w.trouble.lost) {
		return errTimeout
	}
	return nil
}

// sendMap sends one command about a map, which HAProxy may say yes to and do nothing.
func (l link) sendMap(ctx context.Context, file string, version *table) (t *table, isIgnored bool, err error) {
	w := l.w
	if err := l.pass(ctx, l.latency()); err != nil {
		return nil, false, err
	}
	w.changed = w.now()
	w.res.Steps++
	switch {
	case !w.proxy.running:
		return nil, false, plan.ErrNotRunning
	case l.fails(w.trouble.dropped):
		return nil, false, errTimeout
	case l.fails(w.trouble.refused):
		return nil, false, errInternal
	}
	w.checkMayUpdate(l.sidecar, file)
	t = w.proxy.worker.tables[file]
	switch {
	case t == nil:
		return nil, false, errNoMap
	case version != nil && version != t: // another worker's
		return nil, false, errNoVersion
	}
	return t, l.fails(w.trouble.ignored), nil
}

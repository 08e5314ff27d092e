package reconcile

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// fileKeeper is what the agent knows of haproxy.cfg.
type fileKeeper struct {
	writing *fileWrite     // under way beside the loop; nil: none
	done    chan fileWrite // how it went; room for one

	model    []plan.FileBackend // what was last rendered for the file
	renderer Renderer           // and with what
	due      time.Time          // when a write that waits for more changes is due; zero: none waits
	unsure   bool               // the file on disk should be compared
	fresh    bool               // it was tried to be written after HAProxy was last read
	written  time.Time
	putBack  int    // how often someone else had changed it
	current  bool   // the file holds what HAProxy runs
	wrote    []byte // what was last written, or found as it should be; nil: not known
	err      error
	retry    backoff

	// alike are renderers of what is written or loaded, or about to be, that have other routes
	// than the settings of now and differ in nothing else.
	alike []Renderer

	// rejected is what could not be written when it was last tried.
	rejected plan.Marker
	// good renders what HAProxy runs: from the newest settings that it took.
	good Renderer
	// content is what good last rendered into the file.
	content []byte
}

// fileWrite is one write of haproxy.cfg: what is to be in it, and how that went.
type fileWrite struct {
	renderer Renderer
	model    []plan.FileBackend

	content []byte
	changed bool
	err     error
}

// syncFile keeps haproxy.cfg saying what HAProxy runs, and gives the time
// until it is to be called again.
func (a *Agent) syncFile(ctx context.Context, p plan.Plan) time.Duration {
	f := &a.files
	r := a.fileRenderer()
	if r == nil || !a.mayWrite(p) {
		f.current, f.due = false, time.Time{} // whatever it holds: it follows no plan now
		return time.Hour
	}
	if a.reloads.running != nil {
		f.current = false // it holds what is being loaded
		return time.Hour
	}
	same := f.renderer == r && plan.SameFile(f.model, p.File)
	if f.writing != nil {
		// On disk is what was there, or already what is being written. The end of
		// the write wakes the loop, and the newest model is written then.
		f.current = f.current && same && f.writing.renderer == r && plan.SameFile(f.writing.model, p.File)
		return time.Hour
	}
	if same && !f.unsure && f.err == nil {
		f.current, f.due = true, time.Time{}
		return time.Hour
	}
	now := time.Now()
	if latest := now.Add(a.fileDelay(same)); f.due.IsZero() || f.err == nil && f.due.After(latest) {
		f.due = latest // a client may have begun to wait for it
	}
	if wait := f.due.Sub(now); wait > 0 {
		f.current = f.current && same
		return wait
	}
	f.due, f.current = time.Time{}, f.current && same
	f.writing = &fileWrite{renderer: r, model: p.File}
	go func(w fileWrite) { f.done <- a.writeFile(ctx, w) }(*f.writing)
	return time.Hour
}

// isPending reports whether the file is about to be written, or HAProxy was not read
// since it was.
func (f *fileKeeper) isPending() bool {
	return f.fresh || f.writing != nil || !f.due.IsZero() && f.err == nil
}

// pendingFor tells the same of each backend. It is so only where the file has it
// otherwise than HAProxy runs it: one service whose instances come and go all the
// time does not hold up the drains of the others.
func (a *Agent) pendingFor(p plan.Plan) func(backend string) bool {
	f := &a.files
	runs := make(map[string]plan.FileBackend, len(p.File))
	for _, b := range p.File {
		runs[b.Backend] = b
	}
	has := func(renderer Renderer, model []plan.FileBackend) map[string]bool {
		same := make(map[string]bool, len(model))
		if !a.isNewest(renderer) {
			return same
		}
		for _, b := range model {
			is, runs := runs[b.Backend]
			same[b.Backend] = runs && is.Equal(b)
		}
		return same
	}
	inFile, written, loaded := has(f.renderer, f.model), map[string]bool(nil), map[string]bool(nil)
	if f.writing != nil {
		written = has(f.writing.renderer, f.writing.model)
	}
	if r := a.reloads.running; r != nil {
		loaded = has(r.renderer, r.model)
	}
	return func(backend string) bool {
		switch {
		case a.reloads.running != nil && !loaded[backend]: // a new worker would have it otherwise
			return true
		case f.err != nil, !a.known.observed.Running, a.turns.skipped[backend], !inFile[backend]:
			return true
		}
		return f.writing != nil && !written[backend]
	}
}

// isNewest reports whether a renderer is that of the settings of now, or differs from it only in
// routes and pauses.
func (a *Agent) isNewest(r Renderer) bool {
	return r == a.set.Renderer || slices.Contains(a.files.alike, r)
}

// noteAlike takes that a renderer is followed by one that has only other routes.
func (f *fileKeeper) noteAlike(before Renderer, running *reload) {
	f.alike = append(slices.DeleteFunc(f.alike, func(r Renderer) bool {
		return f.renderer != r && (f.writing == nil || f.writing.renderer != r) && (running == nil || running.renderer != r)
	}), before)
}

// noteWritten takes how a write beside the loop went.
func (a *Agent) noteWritten(ctx context.Context, w fileWrite) {
	f := &a.files
	f.writing = nil
	switch err := a.takeWrite(ctx, w); {
	case ctx.Err() != nil: // it fails for that
	case err == nil:
		f.retry = backoff{}
	case a.isNewest(w.renderer) && a.isolate(err): // it is planned again, without what was wrong
	default:
		f.due = time.Now().Add(f.retry.next(a.jitter))
	}
}

// touchChanged has the backends read again that the file has otherwise now, or
// all where it is not known what it had: HAProxy may have loaded the one before
// it meanwhile. Where only routes are new one is read, by which another process is noticed.
func (a *Agent) touchChanged(model []plan.FileBackend) {
	touched := false
	for _, b := range model {
		was := slices.IndexFunc(a.files.model, func(f plan.FileBackend) bool { return f.Backend == b.Backend })
		if b.Service != "" && (was < 0 || !a.files.model[was].Equal(b)) {
			a.known.touch(b.Backend)
			touched = true
		}
	}
	switch service := slices.IndexFunc(model, func(b plan.FileBackend) bool { return b.Service != "" }); {
	case touched:
	case service >= 0 && slices.Contains(a.files.alike, a.files.renderer):
		a.known.touch(model[service].Backend)
	default:
		a.known.forget()
	}
}

// fileDelay is how long this write may wait for more. The very first may not:
// HAProxy waits for it. Nor may one that a client waits for, see Drain.
func (a *Agent) fileDelay(same bool) time.Duration {
	if same || a.files.written.IsZero() || a.attending.Load() > 0 {
		return 0
	}
	return a.set.FileDelay
}

// fileRenderer is what the file is to be rendered with so that a worker that loads
// it gets what HAProxy runs now; nil while HAProxy runs what we can't render.
// Settings that HAProxy does not run yet come into the file with their reload.
func (a *Agent) fileRenderer() Renderer {
	f, o, wanted := &a.files, a.known.observed, a.set.Renderer
	switch {
	case !o.Running && f.good != nil && (a.reloads.failed(wanted.Marker()) || f.rejected == wanted.Marker()):
		return f.good
	case !o.Running:
		return wanted
	case o.Marker == wanted.Marker():
		f.setGood(wanted)
		return wanted
	case f.good != nil && f.good.Marker() == o.Marker:
		return f.good
	case f.renderer != nil && f.renderer.Marker() == o.Marker:
		f.setGood(f.renderer) // what we wrote while HAProxy did not run
		return f.good
	}
	return nil
}

// setGood takes what HAProxy runs. The content of another renderer is not kept: it
// is of before this one's, and may have servers that were called drained since.
func (f *fileKeeper) setGood(r Renderer) {
	if f.good != r {
		f.good, f.content = r, nil
	}
}

// mayWrite is false while it is not known what belongs into the file and a
// file is there that an operator may need.
func (a *Agent) mayWrite(p plan.Plan) bool {
	for _, b := range p.File {
		if b.Known {
			continue
		}
		exists, err := a.file.Exists()
		if a.known.observed.Running || !exists && err == nil && time.Since(a.started) > firstAnswer {
			continue
		}
		return false
	}
	return true
}

// firstAnswer is how long Consul's first answers are waited for where there is no
// file. After that one without servers is written, so that HAProxy can start.
const firstAnswer = time.Second

// writeFile renders and writes the file. It touches nothing that is the loop's.
func (a *Agent) writeFile(ctx context.Context, w fileWrite) fileWrite {
	if w.content, w.err = w.renderer.Render(w.model); w.err == nil {
		w.changed, w.err = a.file.Write(ctx, w.content)
	}
	return w
}

// takeWrite remembers how a write went.
func (a *Agent) takeWrite(ctx context.Context, w fileWrite) error {
	f, r, model, content, changed, err := &a.files, w.renderer, w.model, w.content, w.changed, w.err
	if err != nil && ctx.Err() != nil {
		return err // it fails for that
	}
	if changed || err != nil {
		a.record.FileWritten(err)
	}
	if err != nil {
		if f.err == nil || f.err.Error() != err.Error() {
			a.log.Error("haproxy.cfg write failed", "path", a.file.Path(), "error", err)
		}
		f.err, f.current, f.rejected, a.isolated.content = err, false, r.Marker(), content
		f.fresh = true
		a.known.forget()
		return err
	}
	if f.err != nil {
		a.log.Info("haproxy.cfg write recovered", "path", a.file.Path())
	}
	if changed && f.err == nil && f.wrote != nil && bytes.Equal(f.wrote, content) {
		// It is what we wrote last, and was not there any more. New settings may be the
		// same, as after an edit and a SIGHUP.
		a.record.FilePutBack()
		f.putBack++
		a.log.Warn("haproxy.cfg drift corrected", "path", a.file.Path())
	}
	if changed {
		f.written, f.fresh = time.Now(), true
		a.touchChanged(model)
		a.log.Debug("haproxy.cfg written", "path", a.file.Path(), "bytes", len(content))
	}
	f.model, f.renderer, f.err, f.unsure, f.current, f.wrote = model, r, nil, false, true, content
	if f.rejected == r.Marker() {
		f.rejected = plan.Marker{}
	}
	if r == f.good {
		f.content = content
	}
	return nil
}

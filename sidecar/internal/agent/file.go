package agent

import (
	"bytes"
	"context"
	"reflect"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// fileKeeper is what the agent knows of haproxy.cfg.
type fileKeeper struct {
	model    []plan.FileBackend // what was last rendered for the file
	renderer Renderer           // and with what
	due      time.Time          // when a write that waits for more changes is due; zero: none waits
	unsure   bool               // the file on disk should be compared
	written  time.Time
	current  bool // the file holds what HAProxy runs
	err      error
	retry    backoff

	// rejected is what could not be written when it was last tried.
	rejected plan.Marker
	// good renders what HAProxy runs: from the newest settings that it took.
	good Renderer
	// content is what good last rendered into the file.
	content []byte
}

// tendFile keeps haproxy.cfg saying what HAProxy runs, and gives the time
// until it is to be called again.
func (a *Agent) tendFile(ctx context.Context, p plan.Plan) time.Duration {
	f := &a.files
	r := a.fileRenderer()
	if r == nil || !a.mayWrite(p) {
		return time.Hour
	}
	same := f.renderer == r && reflect.DeepEqual(f.model, p.File)
	if same && !f.unsure && f.err == nil {
		f.current = true
		return time.Hour
	}
	now := time.Now()
	if f.due.IsZero() {
		f.due = now.Add(a.fileDelay(same))
	}
	if wait := f.due.Sub(now); wait > 0 {
		f.current = f.current && same
		return wait
	}
	f.due = time.Time{}
	if err := a.write(ctx, r, p.File); err != nil {
		if r == a.set.Renderer && a.isolate(err) {
			return 0
		}
		wait := f.retry.next(a.jitter)
		f.due = now.Add(wait)
		return wait
	}
	f.retry = backoff{}
	return time.Hour
}

// fileDelay is how long this write may wait for more. The very first may not:
// HAProxy waits for it.
func (a *Agent) fileDelay(same bool) time.Duration {
	if same || a.files.written.IsZero() {
		return 0
	}
	return a.set.FileDelay
}

// fileRenderer is what the file is to be rendered with so that whoever loads
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
		f.good = wanted
		return wanted
	case f.good != nil && f.good.Marker() == o.Marker:
		return f.good
	}
	return nil
}

// mayWrite is false while it is not known what belongs into the file and a
// file is there that somebody may need.
func (a *Agent) mayWrite(p plan.Plan) bool {
	for _, b := range p.File {
		if b.Old && time.Since(a.started) <= firstAnswer {
			return false // Consul may say it better
		}
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

// firstAnswer is how long the very first file waits for Consul's first
// answers. A file without servers is written after that, so that HAProxy can
// start.
const firstAnswer = time.Second

// write renders and writes the file, and remembers how that went.
func (a *Agent) write(ctx context.Context, r Renderer, model []plan.FileBackend) error {
	f := &a.files
	content, err := r.Render(model)
	changed := false
	if err == nil {
		changed, err = a.file.Write(ctx, content)
	}
	if changed || err != nil {
		a.record.FileWritten(err)
	}
	if err != nil {
		if f.err == nil || f.err.Error() != err.Error() {
			a.log.Error("haproxy.cfg could not be written", "path", a.file.Path(), "error", err)
		}
		f.err, f.current, f.rejected, a.isolated.content = err, false, r.Marker(), content
		return err
	}
	if f.err != nil {
		a.log.Info("haproxy.cfg can be written again", "path", a.file.Path())
	}
	if changed {
		f.written = time.Now()
		a.log.Debug("haproxy.cfg written", "path", a.file.Path(), "bytes", len(content))
	}
	f.model, f.renderer, f.err, f.unsure, f.current = model, r, nil, false, true
	if f.rejected == r.Marker() {
		f.rejected = plan.Marker{}
	}
	if r == f.good {
		f.content = content
	}
	return nil
}

// lastGood is a content of the file that HAProxy has run, or nil: ours, or the
// one that a sidecar before us wrote for the process that runs.
func (a *Agent) lastGood() []byte {
	if a.files.content != nil {
		return a.files.content
	}
	content, err := a.file.Read()
	m := a.known.observed.Marker
	if err != nil || m == (plan.Marker{}) || !bytes.Contains(content, []byte(m.String())) {
		return nil
	}
	return content
}

package agent

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// reloadKeeper is what the agent knows of reloads.
type reloadKeeper struct {
	reason  plan.ReloadReason // of the one that is due, or none
	first   time.Time         // when it became due
	changed time.Time         // when what it would load last changed
	model   []plan.FileBackend
	held    string // why it is held back, as it was logged

	succeeded, failures int
	last                time.Time
	lastReason          plan.ReloadReason
	err                 error       // of the last, until HAProxy runs what is wanted
	errMarker           plan.Marker // what it should have loaded
	notBefore           time.Time
	streak              int // failures in a row

	// unforeseen counts the reloads, since the last settings, whose new worker
	// could not listen, though nobody knew before.
	unforeseen int
}

const (
	// listenMin and listenMax bound how long what could not be listened on is
	// left alone where only a reload can tell whether it can be now: each costs
	// the clients some seconds.
	listenMin = time.Minute
	listenMax = time.Hour
)

// listenWait is how long the next such reload must wait; 0 before the first.
func (r *reloadKeeper) listenWait() time.Duration {
	if r.unforeseen == 0 {
		return 0
	}
	return min(listenMin<<min(r.unforeseen-1, 10), listenMax)
}

// answerWait is how long a reload waits for the first answer about a service
// that it brings. Consul may be away for long, and the others need theirs.
const answerWait = 10 * time.Second

// failed reports whether the last reload was to load this, and did not.
func (r *reloadKeeper) failed(m plan.Marker) bool { return r.err != nil && r.errMarker == m }

// newSettings lets the next reload go ahead at once.
func (r *reloadKeeper) newSettings() { r.notBefore, r.streak = time.Time{}, 0 }

// tendReload reloads if a reload is due, and gives the time until it is to be
// called again.
func (a *Agent) tendReload(ctx context.Context, p plan.Plan) time.Duration {
	r := &a.reloads
	if p.Reload == plan.NoReload {
		r.reason, r.held, r.model = plan.NoReload, "", nil
		if r.err != nil {
			// HAProxy runs what is wanted: what was wrong has been put back.
			a.log.Info("the reload that failed is needed no longer", "reason", r.lastReason)
			r.err, r.errMarker, r.streak = nil, plan.Marker{}, 0
		}
		return time.Hour
	}
	now := time.Now()
	if r.reason == plan.NoReload {
		r.first, r.changed = now, now
		a.log.Info("a reload is needed", "reason", p.Reload)
	}
	if !reflect.DeepEqual(r.model, p.File) {
		r.changed = now
	}
	r.reason, r.model = p.Reload, p.File
	if a.files.writing != nil {
		return time.Hour // the end of the write wakes the loop
	}
	if wait := a.untilReload(now, p); wait > 0 {
		return wait
	}
	if a.tooManyOldWorkers(ctx) {
		return time.Second
	}
	a.reload(ctx, p)
	return 0
}

// untilReload is how long the reload must wait: for more changes, for the last
// reload to lie back far enough, for what is not known yet.
func (a *Agent) untilReload(now time.Time, p plan.Plan) time.Duration {
	r := &a.reloads
	due := r.changed.Add(a.set.SettleMin)
	if latest := r.first.Add(a.set.SettleMax); latest.Before(due) {
		due = latest
	}
	for _, b := range p.File {
		if unknown := r.first.Add(answerWait); (!b.Known || b.Old) && unknown.After(due) {
			due = unknown
		}
	}
	if r.notBefore.After(due) {
		due = r.notBefore
	}
	return due.Sub(now)
}

// tooManyOldWorkers reports whether the reload must wait for old workers to
// end. What can't be counted holds nothing: the reload itself will tell.
func (a *Agent) tooManyOldWorkers(ctx context.Context) bool {
	r := &a.reloads
	n, bytes := 0, int64(0)
	if a.set.MaxOldWorkers > 0 || a.set.MaxOldWorkersMemory > 0 {
		n, _ = a.haproxy.OldWorkers(ctx)
	}
	if n > 0 && a.set.MaxOldWorkersMemory > 0 {
		bytes, _ = a.memory(ctx)
	}
	held := ""
	switch {
	case a.set.MaxOldWorkers > 0 && n >= a.set.MaxOldWorkers:
		held = "old workers"
	case a.set.MaxOldWorkersMemory > 0 && bytes >= a.set.MaxOldWorkersMemory:
		held = "memory of old workers"
	}
	if held != "" && r.held != held {
		a.log.Warn("the reload waits until an old worker has ended", "reason", r.reason, "because_of", held,
			"old_workers", n, "max_old_workers", a.set.MaxOldWorkers, "memory", bytes, "max_memory", a.set.MaxOldWorkersMemory)
	}
	r.held = held
	return held != ""
}

// reload writes the file and makes HAProxy load it. A failure leaves HAProxy
// and the file as they were, and the change is still due.
func (a *Agent) reload(ctx context.Context, p plan.Plan) {
	good, wanted := a.lastGood(), a.set.Renderer
	err := a.foresee(wanted, p.FileToReload())
	if err == nil {
		err = a.write(ctx, wanted, p.FileToReload())
	}
	if err != nil && ctx.Err() == nil && a.isolate(err) {
		return // it is planned anew, without what was wrong
	}
	if err == nil {
		if err = a.load(ctx, wanted); err != nil && good != nil && ctx.Err() == nil {
			a.restore(a.renewed(good, p.File), err)
		}
	}
	if ctx.Err() != nil {
		return
	}
	isolated := false
	if errors.Is(err, plan.ErrListen) {
		a.reloads.unforeseen++
		isolated = a.isolate(err)
	}
	a.record.Reload(p.Reload, err)
	a.known.forget()
	r := &a.reloads
	r.last, r.lastReason, r.err, r.errMarker = time.Now(), p.Reload, err, wanted.Marker()
	r.notBefore = r.last.Add(a.set.ReloadInterval)
	if err != nil {
		r.failures++
		r.notBefore = r.last.Add(max(a.set.ReloadInterval, time.Second) << min(r.streak, 5))
		if isolated {
			r.notBefore = r.last.Add(a.set.ReloadInterval) // it is another one
		} else if wait := r.last.Add(r.listenWait()); errors.Is(err, plan.ErrListen) && wait.After(r.notBefore) {
			r.notBefore = wait
		}
		r.streak++
		a.log.Error("reload failed; HAProxy serves on with what it had", "reason", p.Reload, "error", err, "again_in", time.Until(r.notBefore).Round(time.Second))
		return
	}
	r.succeeded++
	if len(a.isolated.left) == 0 {
		r.unforeseen = 0
	}
	r.streak, r.reason, r.held, r.model = 0, plan.NoReload, "", nil
	a.files.good = wanted
	if content, err := a.file.Read(); err == nil {
		a.files.content = content
	}
	a.log.Info("reloaded", "reason", p.Reload)
}

// foresee tells what would keep a new worker from listening, before anything
// is touched.
func (a *Agent) foresee(wanted Renderer, model []plan.FileBackend) error {
	content, err := wanted.Render(model)
	if err != nil {
		return nil //nolint:nilerr // the write tells it
	}
	a.isolated.content = content
	return a.bindable(content)
}

// load makes HAProxy load what is in place, if that is still valid: what the
// file names may have gone since it was written.
func (a *Agent) load(ctx context.Context, wanted Renderer) error {
	if err := a.file.Check(ctx); err != nil {
		return err
	}
	return a.haproxy.Reload(ctx, wanted.Marker())
}

// renewed gives the last good content with the servers of now where it is of other
// settings than HAProxy runs. It was not kept up to date then, and could bring back
// a server that was called drained since.
func (a *Agent) renewed(good []byte, model []plan.FileBackend) []byte {
	r := a.files.good
	if r == nil || r.Marker() == a.known.observed.Marker {
		return good
	}
	content, err := r.Render(model)
	if err != nil {
		return good
	}
	return content
}

// restore puts the last good file back after a reload that failed, so that a
// restart of HAProxy gets what runs.
func (a *Agent) restore(good []byte, because error) {
	if err := a.file.Restore(good, because); err != nil {
		a.log.Error("the last good haproxy.cfg could not be put back", "path", a.file.Path(), "error", err)
	}
	a.files.renderer, a.files.model, a.files.current = nil, nil, false
}

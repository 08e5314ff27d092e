package reconcile

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// reloadKeeper is what the agent knows of reloads.
type reloadKeeper struct {
	running *reload      // under way beside the loop; nil: none
	done    chan *reload // how it went; room for one
	reset   bool         // new settings have come while it was under way

	reason  plan.ReloadReason // of the one that is due, or none
	first   time.Time         // when it became due
	changed time.Time         // when what it would load last changed
	model   []plan.FileBackend
	held    string    // why it is held back, as it was logged
	again   time.Time // when it is looked at again whether it is still held back
	// newer is what Consul had said when it became due that was not planned yet, by
	// backend: that is looked into first. nil: it is not due.
	newer map[string]time.Time
	// isLooked: HAProxy was asked for since then: another program may have reloaded it while
	// this one waited.
	isLooked bool

	succeeded, failures int
	last                time.Time
	lastReason          plan.ReloadReason
	lastFor             []plan.ReloadCause
	err                 error       // of the last, until HAProxy runs what is wanted
	errMarker           plan.Marker // what it should have loaded
	notBefore           time.Time
	streak              int // failures in a row

	// useless counts the reloads that succeeded, one after another, and loaded the
	// same as the one before: loaded. What they brought has not come, or has not stayed,
	// because another program loads a file of its own.
	useless int
	loaded  loaded

	requests  []ReloadRequest // of operators, the newest of them, the oldest first
	requested int             // how many there ever were

	// unforeseen counts the reloads, since an operator's last settings, whose new worker
	// could not listen, though that was unknown before.
	unforeseen int
}

// loaded is what a reload has loaded, without routes and pauses.
type loaded struct {
	marker plan.Marker
	model  []plan.FileBackend
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

// drainWait is how long a reload waits in addition while plan.Plan.HoldReload is set.
const drainWait = time.Second

// stayMin is how long what a reload has brought must be there at least, until the next one
// of the same is no repetition.
const stayMin = 30 * time.Second

// uselessWait is how long the next reload of the same waits after the last.
func (a *Agent) uselessWait() time.Duration {
	return max(a.set.ReloadInterval, time.Second) << min(a.reloads.useless, 6)
}

// failed reports whether the last reload was to load this, and did not.
func (r *reloadKeeper) failed(m plan.Marker) bool { return r.err != nil && r.errMarker == m }

// newSettings lets the next reload go ahead at once.
func (r *reloadKeeper) newSettings() {
	r.notBefore, r.again, r.streak, r.useless, r.reset = time.Time{}, time.Time{}, 0, 0, r.running != nil
}

// reload is one reload: what is to be loaded, and how that went. It is made
// beside the loop, which goes on changing the worker that serves.
type reload struct {
	reason plan.ReloadReason
	causes []plan.ReloadCause // see ReloadState.For
	fileWrite
	servers []plan.FileBackend // as HAProxy runs them, for the file that is put back
	good    lastGood
	pid     int // of the worker that serves
	max     oldWorkerLimits
	began   time.Time

	held  string // why it was not tried: n old workers with their bytes
	n     int
	bytes int64

	isTried, isWritten bool // to write the file, and that succeeded
	isRestored         bool // the last good file was put back
	restoreErr         error
}

// oldWorkerLimits is what old workers may be when a reload starts; 0 is no limit.
type oldWorkerLimits struct {
	n      int
	memory int64 // in bytes
}

// syncReload starts a reload if one is due, and gives the time until it is to be
// called again.
func (a *Agent) syncReload(ctx context.Context, p plan.Plan) time.Duration {
	r := &a.reloads
	if p.Reload == plan.NoReload {
		r.reason, r.held, r.model, r.newer, r.isLooked = plan.NoReload, "", nil, nil, false
		if r.useless > 0 && time.Since(r.last) > max(stayMin, 2*a.uselessWait()) {
			r.useless, r.loaded = 0, loaded{} // it has stayed
		}
		if r.err != nil {
			// HAProxy runs what is wanted: what was wrong has been put back.
			a.log.Info("failed reload no longer needed", "reason", r.lastReason)
			r.err, r.errMarker, r.streak = nil, plan.Marker{}, 0
		}
		return time.Hour
	}
	now := time.Now()
	if r.reason == plan.NoReload {
		r.first, r.changed = now, now
		a.log.Info("reload needed", append([]any{"reason", p.Reload}, causeArgs(p)...)...)
	}
	if !plan.SameFile(r.model, p.File) {
		r.changed = now
	}
	r.reason, r.model = p.Reload, p.File
	if a.files.writing != nil || r.running != nil {
		r.newer = nil    // there may be other answers by then
		return time.Hour // its end wakes the loop
	}
	if wait := max(a.reloadDue(p).Sub(now), r.again.Sub(now)); wait > 0 {
		r.newer, r.isLooked = nil, false
		return wait
	}
	if !r.isLooked {
		if r.isLooked = true; a.lookAgain() {
			return 0
		}
	}
	if r.newer == nil {
		r.newer = a.unplanned()
	}
	if maps.DeleteFunc(r.newer, a.isPlanned); len(r.newer) > 0 { // HAProxy may have answered slowly
		return 0
	}
	if r.newer = nil; len(a.reconfigured) > 0 {
		return 0 // the newest settings may need none
	}
	r.isLooked = false
	r.running = &reload{
		reason: p.Reload, causes: causes(p),
		fileWrite: fileWrite{renderer: a.set.Renderer, model: p.FileToReload()},
		servers:   p.File, good: a.lastGood(), pid: a.known.observed.PID,
		max: oldWorkerLimits{a.set.MaxOldWorkers, a.set.MaxOldWorkersMemory}, began: now,
	}
	r.reset = false
	r.move(RequestDue, RequestUnderWay, 0, nil)
	a.files.current = false
	go func(l reload) {
		a.reload(ctx, &l)
		r.done <- &l
	}(*r.running)
	return time.Hour
}

// maxCauses bounds the backends of a reload that are published.
const maxCauses = 10

// causes is the backends because of which a reload is needed, as far as they are published.
func causes(p plan.Plan) []plan.ReloadCause {
	return slices.Clip(p.ReloadFor[:min(len(p.ReloadFor), maxCauses)])
}

// causeArgs is the first of them for the log, and how many there are.
func causeArgs(p plan.Plan) []any {
	if len(p.ReloadFor) == 0 {
		return nil
	}
	return []any{"backend", p.ReloadFor[0].Backend, "because", p.ReloadFor[0].Why, "backends", len(p.ReloadFor)}
}

// lookAgain has the next pass read a backend, by which another process is noticed. It
// reports whether there is one to read.
func (a *Agent) lookAgain() bool {
	for _, s := range a.set.Services {
		if _, exists := a.known.observed.Backends[s.Backend]; exists && !a.turns.skipped[s.Backend] {
			a.known.touch(s.Backend)
			return true
		}
	}
	return false
}

// takeover is how long after its beginning the worker of a reload may begin to
// serve. A reload that takes longer hangs, and holds up nothing.
const takeover = 5 * time.Second

// sendable leaves out the steps that are right only for the worker that was read,
// while a reload brings another one, which they may reach. That has not got the
// servers that have come meanwhile, and has others at their former addresses.
func (a *Agent) sendable(steps []plan.Step) []plan.Step {
	if a.untilTakeover() <= 0 {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), plan.Step.IsForWorker)
}

// untilTakeover is how long another worker may still begin to serve.
func (a *Agent) untilTakeover() time.Duration {
	if r := a.reloads.running; r != nil {
		return time.Until(r.began.Add(takeover))
	}
	return 0
}

// reloadDue is when the reload may start: it waits for more changes, for the last
// reload to lie back far enough, for what is not known yet.
func (a *Agent) reloadDue(p plan.Plan) time.Time {
	r := &a.reloads
	due := r.changed.Add(a.set.ReloadDebounce)
	if latest := r.first.Add(a.set.ReloadMaxDelay); latest.Before(due) {
		due = latest
	}
	if is := r.due(); is != nil && is.At.Before(due) {
		due = is.At // an operator waits for no further changes
	}
	for _, b := range p.File {
		if unknown := r.first.Add(answerWait); !b.Known && unknown.After(due) {
			due = unknown
		}
	}
	if r.notBefore.After(due) {
		due = r.notBefore
	}
	if p.HoldReload {
		due = due.Add(drainWait)
	}
	return due
}

// reloadNotBefore is when the reload that is due starts at the earliest.
func (a *Agent) reloadNotBefore(p plan.Plan) time.Time {
	r := &a.reloads
	if r.reason == plan.NoReload || r.running != nil || p.Reload == plan.NoReload {
		return time.Time{}
	}
	if due := a.reloadDue(p); due.After(r.again) {
		return due
	}
	return r.again
}

// reload writes the file and makes HAProxy load it. A failure leaves HAProxy and
// the file as they were. It touches nothing that is the loop's.
func (a *Agent) reload(ctx context.Context, l *reload) {
	if a.hold(ctx, l); l.held != "" {
		return
	}
	good := l.good.read(a.file)
	if l.content, l.err = l.renderer.Render(l.model); l.err == nil {
		if l.err = a.bindable(l.content, good, l.pid); l.err != nil {
			return
		}
		l.changed, l.err = a.file.Write(ctx, l.content)
	}
	l.isTried, l.isWritten = true, l.err == nil
	if l.err != nil {
		return
	}
	// What the file names may have gone since it was written.
	if l.err = a.file.Check(ctx); l.err == nil {
		l.err = a.haproxy.Reload(ctx, l.renderer.Marker())
	}
	if l.err != nil && good != nil && ctx.Err() == nil {
		l.isRestored, l.restoreErr = true, a.file.Restore(l.good.renewed(good, l.servers), l.err)
	}
}

// hold says why the reload must wait for old workers to end. What can't be counted
// holds nothing: the reload itself will tell.
func (a *Agent) hold(ctx context.Context, l *reload) {
	if l.max.n > 0 || l.max.memory > 0 {
		l.n, _ = a.haproxy.OldWorkers(ctx)
	}
	if l.n > 0 && l.max.memory > 0 {
		l.bytes, _ = a.memory(ctx)
	}
	switch {
	case l.max.n > 0 && l.n >= l.max.n:
		l.held = "old workers"
	case l.max.memory > 0 && l.bytes >= l.max.memory:
		l.held = "memory of old workers"
	}
}

// heldAgain is how long a reload that old workers hold back waits until they are
// counted again.
const heldAgain = time.Second

// noteHeld takes that a reload was not tried.
func (a *Agent) noteHeld(l *reload) {
	r := &a.reloads
	if r.held != l.held {
		a.log.Warn("reload delayed by old workers", "reason", l.reason, "because_of", l.held,
			"old_workers", l.n, "max_old_workers", l.max.n, "memory", l.bytes, "max_memory", l.max.memory)
	}
	r.held, r.again = l.held, time.Now().Add(heldAgain)
	if r.reset {
		r.again = time.Time{}
	}
}

// noteReload takes how a reload went. One that failed is still due.
func (a *Agent) noteReload(ctx context.Context, l *reload) {
	r, err := &a.reloads, l.err
	r.running = nil
	switch {
	case ctx.Err() != nil: // it fails for that
		return
	case l.held != "":
		r.move(RequestUnderWay, RequestDue, 0, nil)
		a.noteHeld(l)
		return
	}
	a.known.forget()
	r.held, a.isolated.content = "", l.content
	if written := l.fileWrite; l.isTried {
		if l.isWritten {
			written.err = nil // else it is the reload's
		}
		_ = a.takeWrite(ctx, written)
	}
	if l.isRestored {
		a.noteRestored(l.restoreErr)
	}
	isNewest := a.isNewest(l.renderer)
	if err != nil && !l.isWritten && isNewest && a.isolate(err) {
		r.move(RequestUnderWay, RequestDue, 0, nil)
		return // it is planned again, without what was wrong
	}
	isolated := false
	if errors.Is(err, plan.ErrListen) {
		r.unforeseen++
		isolated = isNewest && a.isolate(err)
	}
	a.record.Reload(l.reason, err)
	r.last, r.lastReason, r.lastFor, r.err, r.errMarker = time.Now(), l.reason, l.causes, err, l.renderer.Marker()
	r.notBefore = r.last.Add(a.set.ReloadInterval)
	if err != nil {
		r.move(RequestUnderWay, RequestFailed, l.pid, err)
		a.noteReloadFailed(l, isolated)
		return
	}
	r.move(RequestUnderWay, RequestDone, 0, nil)
	r.succeeded++
	if len(a.isolated.left) == 0 {
		r.unforeseen = 0
	}
	r.streak, r.reason, r.held, r.model = 0, plan.NoReload, "", nil
	if r.reset {
		r.notBefore = time.Time{}
	}
	a.files.good, a.files.content = l.renderer, l.content
	a.log.Info("reloaded", "reason", l.reason)
	if l.reason != plan.Requested { // else nothing was to come of it
		a.noteUse(l)
	}
}

// noteUse counts the reloads that have brought nothing, and postpones the next.
func (a *Agent) noteUse(l *reload) {
	r := &a.reloads
	if is := (loaded{l.renderer.Marker(), l.model}); r.loaded.marker != is.marker || !plan.SameFile(r.loaded.model, is.model) {
		r.useless, r.loaded = 0, is
	}
	if r.useless > 0 && !r.reset {
		// What a reload should bring does not come by it.
		wait := a.uselessWait()
		r.notBefore = r.last.Add(wait)
		a.log.Warn("reload was needed again", "reason", l.reason, "reloads", r.useless+1, "not_before", wait)
	}
	r.useless++
}

// noteReloadFailed says when the reload is tried again.
func (a *Agent) noteReloadFailed(l *reload, isolated bool) {
	r := &a.reloads
	r.failures++
	if l.reason == plan.Requested {
		// HAProxy runs what is wanted: it is for the operator to ask again.
		r.err, r.errMarker = nil, plan.Marker{}
		a.log.Error("reload failed, previous configuration still active", "reason", l.reason, "error", l.err)
		return
	}
	wait := max(a.set.ReloadInterval, time.Second) << min(r.streak, 5)
	switch {
	case isolated:
		wait = a.set.ReloadInterval // it is another one
	case errors.Is(l.err, plan.ErrListen):
		wait = max(wait, r.listenWait())
	}
	r.notBefore = r.last.Add(wait)
	r.streak++
	if r.reset {
		r.notBefore, r.streak = time.Time{}, 0
	}
	a.log.Error("reload failed, previous configuration still active", "reason", l.reason, "error", l.err, "again_in", time.Until(r.notBefore).Round(time.Second))
}

// lastGood is where to find a content of the file that HAProxy has run: ours, or
// the one that a sidecar before us wrote for the process that runs.
type lastGood struct {
	content  []byte
	marker   plan.Marker // of the process that runs
	renderer Renderer    // of the content, if it is of other settings than HAProxy runs
}

func (a *Agent) lastGood() lastGood {
	g := lastGood{content: a.files.content, marker: a.known.observed.Marker}
	if r := a.files.good; r != nil && r.Marker() != g.marker {
		g.renderer = r
	}
	return g
}

// read returns the content, or nil.
func (g lastGood) read(file File) []byte {
	if g.content != nil {
		return g.content
	}
	content, err := file.Read()
	if err != nil || g.marker == (plan.Marker{}) || !bytes.Contains(content, []byte(g.marker.String())) {
		return nil
	}
	return content
}

// renewed returns the content with the servers of now where it is of other settings
// than HAProxy runs. It was not kept up to date then, and could bring back a server
// that was called drained since.
func (g lastGood) renewed(content []byte, model []plan.FileBackend) []byte {
	if g.renderer == nil {
		return content
	}
	renewed, err := g.renderer.Render(model)
	if err != nil {
		return content
	}
	return renewed
}

// noteRestored takes that the last good file was put back after a reload that
// failed, so that a restart of HAProxy gets what runs.
func (a *Agent) noteRestored(err error) {
	if err != nil {
		a.log.Error("haproxy.cfg restore failed", "path", a.file.Path(), "error", err)
	}
	a.files.renderer, a.files.model, a.files.current, a.files.wrote = nil, nil, false, nil
}

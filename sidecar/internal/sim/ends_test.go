package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// patience is how long it may take, after the last thing that went wrong, until
// HAProxy runs what Consul says: drains and replacements have their time, and
// what failed again and again is tried again after up to a minute.
const patience = 4 * time.Minute

// heal ends all that is wrong: from here on things only settle.
func (w *world) heal() {
	if w.broken() {
		return
	}
	w.mu.Lock()
	w.note("all is well from here on")
	w.healed = true
	w.trouble = trouble{}
	for _, n := range w.nodes {
		n.says = saysFull
	}
	w.keepLow()
	w.consul.back()
	w.rolloutsBack()
	w.validSettings()
	w.initSystem()
	if w.sidecar == nil {
		w.startSidecar()
	} else {
		w.sidecar.fuse = 0
	}
	w.after(20*time.Second, w.lastWord)
	w.mu.Unlock()
}

// lastWord makes what is registered true: who lives answers and passes, and who
// does not is gone. Twice, for a crash may have been under way.
func (w *world) lastWord() {
	w.startSidecar()
	w.initSystem()
	for _, n := range w.nodes {
		switch {
		case n.alive && !n.leaving:
			n.listening, n.weight = true, max(1, n.weight)
			w.again(n)
			w.consul.change(n, "passing:", func(r *registration) { r.check, r.maintenance, r.inst.Weight = catalog.Passing, false, n.weight })
		case !n.alive:
			w.consul.deregister(n)
		}
	}
	w.lastDocuments()
	for _, s := range w.set.services {
		for id, r := range w.consul.services[s.Name] {
			if w.nodeOf(s.Name, id) == nil {
				delete(w.consul.services[s.Name], id)
				_ = r
				w.consul.changed(s.Name, "reaps "+id)
			}
		}
	}
}

// end waits until all has settled, and then tries whether it holds: nothing
// happens any more, also not with another sidecar.
func (w *world) end() {
	if w.broken() {
		return
	}
	deadline := w.now() + patience
	settled := func() bool {
		return w.now() > deadline-patience+25*time.Second && w.now()-w.changed > w.set.reconcile+time.Second && w.isQuiet()
	}
	if !w.runUntil(deadline, settled) {
		w.breach(convergence, "%s after the last fault: %s", patience, w.notQuiet())
		return
	}
	if w.broken() {
		return
	}
	w.mu.Lock()
	w.note("all is settled: %s", w.proxy.worker)
	before := w.listedRun()
	text, _ := w.disk.on()
	steps, reloads := w.res.Steps, w.res.Reloads
	s := w.sidecar
	w.mu.Unlock()
	if w.runUntil(w.now()+3*w.set.reconcile, func() bool { return false }); w.broken() {
		return
	}
	w.mu.Lock()
	if w.maybe(0.5) {
		s.kill()
	} else {
		s.terminate()
	}
	w.after(time.Second, w.startSidecar)
	w.mu.Unlock()
	if w.runUntil(w.now()+8*time.Second+2*w.set.reconcile, func() bool { return false }); w.broken() {
		return
	}
	w.runUntil(w.now()+5*time.Second, w.isQuiet) // it may be in a call just now
	w.mu.Lock()
	defer w.mu.Unlock()
	if after := w.listedRun(); after != before || !w.fileIsLike(text) || w.res.Steps != steps || w.res.Reloads != reloads {
		w.breach(adopts, "all was settled, and another sidecar sent %d steps and %d reloads: %s", w.res.Steps-steps, w.res.Reloads-reloads, after)
	}
	if !w.isQuiet() {
		w.breach(adopts, "all was settled, and with another sidecar %s", w.notQuiet())
	}
}

func (w *world) fileIsLike(was content) bool {
	is, _ := w.disk.on()
	return w.filesAlike(was, is)
}

func (w *world) isQuiet() bool { return w.notQuiet() == "" }

// notQuiet says what is left to do, as the world and as the sidecar have it.
func (w *world) notQuiet() string {
	if d := w.differs(); d != "" {
		return d
	}
	if w.sidecar == nil {
		return "no sidecar runs"
	}
	for _, n := range w.nodes {
		if n.alive && n.leaving || !n.alive && w.consul.registrationOf(n) != nil && w.nodeOf(n.service, n.id) == nil {
			return n.String() + " is still leaving"
		}
	}
	st := w.sidecar.agent.State()
	switch {
	case !st.Ready:
		return "the sidecar is not ready: " + st.NotReady
	case !st.File.Current || st.File.Error != "":
		return "the sidecar says the file is not current " + st.File.Error
	case st.Behind.Changes > 0:
		return st.Behind.String()
	case st.Reloads.Pending != "":
		return "a reload is pending: " + st.Reloads.Pending
	case slices.ContainsFunc(st.ReloadRequests, func(q reconcile.ReloadRequest) bool { return !q.HasEnded() }):
		return fmt.Sprintf("a request for a reload has not ended: %+v", st.ReloadRequests)
	case w.sidecar.calling+w.sidecar.beside > 0:
		return "the sidecar is in a call"
	}
	return ""
}

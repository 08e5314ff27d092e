package reconcile

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// saveDelay gathers the changes of a burst, and bounds how often the snapshot
// is written. What is newer is in HAProxy and its file.
const saveDelay = time.Second

// ageDelay is how often it is written though nothing has changed, so that its
// age tells for how long Consul has been away. Two thousand services are
// answered about some times a second, each with nothing new.
const ageDelay = time.Minute

// storeKeeper is what the agent knows of the snapshot on disk.
type storeKeeper struct {
	old     map[string]catalog.Saved // what a sidecar before has left, by service
	saved   map[string]catalog.Saved // what is on disk
	at      time.Time                // when it was written
	due     time.Time                // of the next write; zero: nothing is new
	saving  map[string]catalog.Saved // what is being written; nil: nothing is
	done    chan error               // how that went; room for one
	err     error
	damaged string // what was put aside at the start, and why
	retry   backoff

	told  bool      // that it is used
	asked time.Time // when what is known was last asked for
}

// recallCatalog reads what the sidecar before has left. Whatever is wrong with
// it is no reason not to start.
func (a *Agent) recallCatalog() {
	k := &a.saved
	k.done = make(chan error, 1)
	if a.store == nil {
		return
	}
	saved, err := a.store.Load()
	if err != nil {
		k.damaged = oneLine(err)
		a.log.Error("snapshot load failed", "path", a.store.Path(), "error", oneLine(err))
		return
	}
	k.saved = make(map[string]catalog.Saved, len(saved))
	for _, s := range saved {
		k.saved[s.Service.Name] = s
		if s.Answered.After(k.at) {
			k.at = s.Answered
		}
	}
	k.old = k.saved
}

// snapshot is what Consul says, and where it does not say anything, what it
// said to the sidecar before. Consul mostly says it better in a moment.
func (a *Agent) snapshot() catalog.Snapshot {
	snap := a.ask()
	if len(a.saved.old) == 0 || time.Since(a.started) < firstAnswer {
		return snap
	}
	var needed []catalog.Saved
	for _, s := range a.set.Services {
		if old, exists := a.saved.old[s.Backend]; exists && !snap.Service(s.Backend).Known {
			needed = append(needed, old)
		}
	}
	switch {
	case len(needed) == 0:
		a.saved.old = nil // Consul does not forget what it has answered
	case !a.saved.told:
		a.saved.told = true
		a.log.Warn("Consul unavailable, using snapshot", "services", len(needed), "answered", needed[0].Answered)
	}
	return snap.OrSaved(needed)
}

// tendStore writes the snapshot when something is new, in a goroutine of its
// own: a slow disk holds up nothing. It gives the time until it is to be called
// again.
func (a *Agent) tendStore(snap catalog.Snapshot) time.Duration {
	k, now := &a.saved, time.Now()
	if a.store == nil || k.saving != nil {
		return time.Hour
	}
	switch changed, newer := a.isNewer(snap); {
	case k.err != nil && !k.due.IsZero(): // it is tried again then
	case changed && (k.due.IsZero() || k.due.Sub(now) > saveDelay):
		k.due = now.Add(saveDelay)
	case newer && k.due.IsZero():
		k.due = now.Add(max(saveDelay, k.at.Add(ageDelay).Sub(now)))
	case k.due.IsZero():
		return time.Hour
	}
	if wait := k.due.Sub(now); wait > 0 {
		return wait
	}
	a.save(snap)
	return time.Hour
}

func (a *Agent) save(snap catalog.Snapshot) {
	k := &a.saved
	k.due, k.saving = time.Time{}, a.toSave(snap)
	saving := slices.SortedFunc(maps.Values(k.saving), func(x, y catalog.Saved) int { return cmp.Compare(x.Service.Name, y.Service.Name) })
	go func() { k.done <- a.store.Save(saving) }()
}

// ask gives what Consul says now.
func (a *Agent) ask() catalog.Snapshot {
	a.saved.asked = time.Now()
	return a.catalog.Snapshot()
}

// untilSaved is how long it takes until what was saved may be used.
func (a *Agent) untilSaved() time.Duration {
	if wait := firstAnswer - time.Since(a.started); len(a.saved.old) > 0 && wait > 0 {
		return wait
	}
	return time.Hour
}

// isNewer reports whether Consul has said anything new since the snapshot was
// written, and whether it has answered at all.
func (a *Agent) isNewer(snap catalog.Snapshot) (changed, answered bool) {
	for _, s := range a.set.Services {
		if w := snap.Service(s.Backend); !w.Known || w.Old {
			continue
		}
		was, exists := a.saved.saved[s.Backend]
		health := a.catalog.Health(s.Backend)
		if !exists || health.Changed.After(was.Answered) {
			return true, true
		}
		answered = answered || health.Answered.After(was.Answered)
	}
	return false, answered
}

// toSave is the newest complete answer about each service that is routed.
func (a *Agent) toSave(snap catalog.Snapshot) map[string]catalog.Saved {
	out := make(map[string]catalog.Saved, len(a.set.Services))
	for _, s := range a.set.Services {
		w := snap.Service(s.Backend)
		was, exists := a.saved.saved[s.Backend]
		switch {
		case w.Known && !w.Old:
			out[s.Backend] = catalog.Saved{Service: w, Answered: a.answered(s.Backend)}
		case exists:
			out[s.Backend] = was
		}
	}
	return out
}

// answered is when Consul gave what is to be saved. It may have answered again
// meanwhile, and that is still to be saved then.
func (a *Agent) answered(service string) time.Time {
	last, asked := a.catalog.Health(service).Answered, a.saved.asked
	if !last.Before(asked) {
		return asked.Add(-1)
	}
	return last
}

// noteSaved takes how a write went.
func (a *Agent) noteSaved(err error) {
	k := &a.saved
	saving := k.saving
	k.saving = nil
	switch {
	case err != nil:
		if text(k.err) != err.Error() {
			a.log.Error("snapshot write failed", "path", a.store.Path(), "error", err)
		}
		k.err, k.due = err, time.Now().Add(k.retry.next(a.jitter))
	default:
		if k.err != nil {
			a.log.Info("snapshot write recovered", "path", a.store.Path())
		}
		k.err, k.retry, k.saved, k.at = nil, backoff{}, saving, time.Now()
	}
}

// endSaving saves what is new, for the sidecar that may follow at once. It does
// not wait for long.
func (a *Agent) endSaving(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	snap := a.ask()
	for range 2 { // what is under way, and what is newer
		if a.store == nil {
			return
		}
		if a.saved.saving == nil {
			if changed, _ := a.isNewer(snap); !changed || a.saved.err != nil {
				return
			}
			a.save(snap)
		}
		select {
		case err := <-a.saved.done:
			a.noteSaved(err)
		case <-ctx.Done():
			return
		}
	}
}

// savedState is the snapshot for people.
func (a *Agent) savedState() *SnapshotState {
	if a.store == nil {
		return nil
	}
	k := &a.saved
	return &SnapshotState{Path: a.store.Path(), Written: k.at, Damaged: k.damaged, Error: text(k.err)}
}

package sim

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// file is the disk as one sidecar has it: its reconcile.File.
type file struct{ *sidecar }

var _ reconcile.File = file{}

var errInvalid = errors.New("HAProxy rejects the new configuration")

// Path is where the file is.
func (f file) Path() string { return "/etc/haproxy/haproxy.cfg" }

// Exists reports whether there is one.
func (f file) Exists() (bool, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return f.w.disk.text != nil, nil
}

func (f file) Read() ([]byte, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.disk.text == nil {
		return nil, fs.ErrNotExist
	}
	if f.w.disk.foreign {
		f.readForeign = string(f.w.disk.text)
	}
	return slices.Clone(f.w.disk.text), nil
}

// Write validates the content and puts it in place by a rename: it is there or
// it is not, also if the sidecar dies meanwhile.
func (f file) Write(ctx context.Context, content []byte) (bool, error) {
	w := f.w
	time.Sleep(beginning)
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.dead || f.ended {
		return false, errDead
	}
	f.writeBegan = w.now()
	// Should it be a reload's: old workers were counted since that was decided.
	f.needed, f.oldHeld = w.needsReload(f.sidecar) || f.neededAt > 0 && w.now()-f.neededAt <= 2*counting, f.oldSaw
	if bytes.Equal(content, w.disk.text) && w.disk.areMapsCurrent(w.disk.known[string(content)]) {
		w.disk.foreign, w.disk.foreignMaps = false, false // it is as it should be
		f.written = w.disk.known[string(content)].backends
		return false, nil
	}
	f.beside++
	defer func() { f.beside-- }()
	away := f.away // one that was begun before has whom HAProxy ran, up or not
	w.note("sidecar: begins to write the file: %s", w.disk.known[string(content)])
	isWritten := false
	defer func() { f.noteWrote(w.disk.known[string(content)].backends, isWritten) }()
	w.checkFile(f.sidecar, content)
	if err := f.elapse(ctx, 10*time.Millisecond); err != nil {
		return false, err
	}
	switch {
	case f.told:
		w.breach(outlives, "the file is written by a sidecar that was told to end")
	case w.disk.known[string(content)].invalid:
		f.failed = w.now()
		w.note("sidecar: the file is rejected")
		return false, errInvalid
	case w.trouble.write > 0 && f.dice.Float64() < w.trouble.write:
		f.failed = w.now()
		w.note("sidecar: the file can't be written")
		return false, errors.New("no space left on device")
	}
	if err := f.writeMaps(ctx, content); err != nil {
		return false, err
	}
	w.disk.put(content)
	isWritten = true
	f.writes++
	if away {
		f.noteFiled(content)
	}
	w.changed = w.now()
	w.note("sidecar: writes the file: %s", w.disk)
	if err := f.elapse(ctx, 10*time.Millisecond); err != nil {
		return true, err
	}
	return true, nil
}

// writeMaps puts the map files in place before the file: what comes between can go wrong.
func (f file) writeMaps(ctx context.Context, content []byte) error {
	w, c := f.w, f.w.disk.known[string(content)]
	if w.disk.areMapsCurrent(c) {
		return nil
	}
	w.disk.putMaps(c)
	w.note("sidecar: writes the map files")
	if err := f.elapse(ctx, 0); err != nil {
		return err
	}
	if w.trouble.write > 0 && f.dice.Float64() < w.trouble.write {
		f.failed = w.now()
		return errors.New("no space left on device")
	}
	return nil
}

// noteWrote notes which backends the sidecar writes otherwise than the last time.
func (f file) noteWrote(is []plan.FileBackend, isWritten bool) {
	for _, b := range is {
		if !slices.ContainsFunc(f.written, b.Equal) {
			f.wrote[b.Backend] = f.w.now()
		}
	}
	if isWritten {
		f.written = is
	}
}

// beginning is how long a write takes to begin. The loop goes on in the same
// instant, and which of the two comes first is not to be left to chance.
const beginning = 111 * time.Nanosecond

// elapse lets time go by that the loop does not wait for. A sidecar that dies
// meanwhile does nothing more. It must not draw from the loop's luck: which of the
// two comes first is not to be told.
func (s *sidecar) elapse(ctx context.Context, atLeast time.Duration) error {
	w := s.w
	if s.fuse > 0 {
		if s.fuse--; s.fuse == 0 {
			s.kill()
		}
	}
	took := atLeast + time.Duration(s.dice.Int64N(int64(20*time.Millisecond+w.set.latency)))
	if s.dice.Float64() < w.trouble.slow {
		took += time.Duration(s.dice.Int64N(int64(3 * time.Second)))
	}
	w.mu.Unlock()
	time.Sleep(took.Truncate(time.Microsecond) + 777*time.Nanosecond)
	w.mu.Lock()
	if s.dead || s.ended {
		return errDead
	}
	return ctx.Err()
}

var errDead = errors.New("the sidecar has died")

// noteFiled notes who is in the file of an HAProxy that does not run.
func (f file) noteFiled(content []byte) {
	for _, b := range f.w.disk.known[string(content)].backends {
		for _, srv := range b.Servers {
			known := slices.ContainsFunc(f.filed[b.Backend], func(x plan.Server) bool { return x.Addr == srv.Addr })
			if !srv.Disabled && srv.Weight > 0 && !known {
				if !isSlot(srv.Name) { // it has moved
					f.filed[b.Backend] = slices.DeleteFunc(f.filed[b.Backend], func(x plan.Server) bool { return x.Name == srv.Name })
				}
				f.filed[b.Backend] = append(f.filed[b.Backend], plan.Server{Name: srv.Name, Addr: srv.Addr, Backup: srv.Backup})
			}
		}
	}
}

// Check asks HAProxy about the file that is there.
func (f file) Check(ctx context.Context) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.beside++
	defer func() { f.beside-- }()
	if err := f.elapse(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	if c, ok := f.w.disk.on(); !ok || c.invalid {
		return errInvalid
	}
	return nil
}

// Restore puts back what HAProxy has run.
func (f file) Restore(content []byte, _ error) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.dead || f.ended {
		return errDead
	}
	if f.told {
		f.w.breach(outlives, "the file is put back by a sidecar that was told to end")
	}
	if f.dice.Float64() < f.w.trouble.write {
		f.failed = f.w.now()
		return errors.New("no space left on device")
	}
	f.w.disk.put(content)
	f.w.disk.foreign = string(content) == f.readForeign // it took that for what HAProxy has run
	f.writes++
	f.w.note("sidecar: puts the file back: %s", f.w.disk)
	return nil
}

// recorder gets what the sidecar does: its reconcile.Recorder.
type recorder struct{ *sidecar }

var _ reconcile.Recorder = recorder{}

func (r recorder) Step(string, plan.Step, error) {}

func (r recorder) Reload(reason plan.ReloadReason, _ error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if !slices.Contains(plan.ReloadReasons, reason) {
		r.w.breach(reloadReason, "the reason %q is not on the list", reason)
	}
}

func (r recorder) FileWritten(error) {}

func (r recorder) FilePutBack() {}

func (r recorder) Applied(string, time.Duration) {}

// isDrained is the answer to a leaving node: what is older than its word says
// nothing. Nor does an index of before Consul lost its data: no sidecar can compare
// it with one of after that, and a sidecar that is seconds behind then is no
// case of ours.
func (r recorder) isDrained(s *reconcile.State, n *node) bool {
	d, _ := s.Drain(n.service, n.id)
	return d.Drained && r.givenEpoch[n.service] == r.w.consul.epoch && slices.ContainsFunc(s.Services, func(svc reconcile.ServiceState) bool {
		return svc.Name == n.service && svc.Index >= n.asked
	})
}

// State gets what people and leaving nodes hear.
func (r recorder) State(s *reconcile.State) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.checkOwed("State")
	r.checkPasses()
	r.w.checkState(r.sidecar, s)
	r.w.checkRequests(r.sidecar, s)
	defer r.endPass()
	for _, n := range r.w.nodes {
		if n.waiting && r.isDrained(s, n) {
			if p := r.w.proxy; p.strange && p.running && p.pid != r.saw.PID {
				n.orderly = false // the sidecar has not seen yet what an operator has loaded
			}
			if at := (place{n.service, n.addr}); !s.HAProxy.Running && !r.heardLeaving[at] && !r.w.disk.has(at) {
				n.orderly = false // the sidecar did not hear of it, so it may take it for one that is lost the next time
			}
			n.released(s.File.Error == "" && (s.File.Current || s.HAProxy.Running && s.Reloads.Pending == ""))
		}
	}
}

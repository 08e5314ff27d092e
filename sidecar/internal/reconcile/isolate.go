package reconcile

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// divisible is a Renderer that can do without some of the services. A Renderer
// need not be.
type divisible interface {
	// Blame gives the backends because of which HAProxy has rejected a content;
	// none if it can't be told, or if there is more to it.
	Blame(content []byte, rejected error) []string
	// Without gives a Renderer of all but one backend. What a content that
	// HAProxy took has of it is kept in its place, with the options of its
	// servers; isKept is false if that has nothing of it.
	Without(backend string, good []byte) (r Renderer, options string, isKept bool, err error)
	// Operator gives the servers of a backend that are the operator's own.
	Operator(backend string) []string
}

// prober is a File that can be asked about a content without writing it.
type prober interface {
	Try(ctx context.Context, content []byte) error
}

// binder is a File that can tell whether a new worker could listen on all that
// a content has, beside the worker with that process id, which runs another.
type binder interface {
	Bindable(content, runs []byte, pid int) error
}

// isolated is what is rendered otherwise than was asked for, because HAProxy
// would reject all of it else.
type isolated struct {
	asked    Settings           // as they were given
	left     map[string]leftOut // by backend
	content  []byte             // that was rejected last
	next     time.Time          // when what was asked for is tried again
	attempts int
	hopeless bool // it was tried, and what is left was rejected, too
	trial    *trial
}

// trial is a look, beside the loop, at whether what was asked for has become
// valid.
type trial struct {
	err     error
	isCheap bool // it costs little to look again
}

// leftOut is one service that stays as it was, or is not there.
type leftOut struct {
	service string
	because error
	before  bool // as it was
}

const (
	// retryMin and retryMax bound how often it is looked whether what was
	// rejected has become valid: a certificate's file has come, say.
	retryMin = 10 * time.Second
	retryMax = 10 * time.Minute
)

// isolate goes on without the services because of which HAProxy has rejected
// what was rendered last, and reports whether it can. A service that HAProxy
// runs is kept as it was; where that can't be, none is left out.
func (a *Agent) isolate(err error) bool {
	k := &a.isolated
	set, left, blamed := a.without(err)
	if len(blamed) == 0 {
		if len(k.left) > 0 {
			a.log.Error("HAProxy rejects other services too, none isolated", "services", len(k.left))
			a.set, k.left, k.hopeless, a.files.alike = k.asked, nil, true, nil
			a.known.forget()
		}
		return false
	}
	a.set, k.left, a.files.alike = set, left, nil
	if k.attempts == 0 {
		k.next = time.Now().Add(max(retryMin, a.reloads.listenWait()))
	}
	a.known.forget()
	for _, backend := range blamed {
		l := left[backend]
		a.log.Error("service configuration rejected, previous version kept", "service", l.service, "backend", backend, "as_before", l.before, "error", oneLine(err))
	}
	return true
}

// without returns the settings without those who are to blame, and who they are;
// none, if it can't do without them.
func (a *Agent) without(err error) (set Settings, left map[string]leftOut, blamed []string) {
	d, ok := a.set.Renderer.(divisible)
	if !ok || a.isolated.hopeless {
		return set, nil, nil
	}
	set, left = a.set, map[string]leftOut{}
	maps.Copy(left, a.isolated.left)
	set.Services = slices.Clone(set.Services)
	good := a.goodContent()
	blamed = d.Blame(a.isolated.content, err)
	for _, backend := range blamed {
		i := slices.IndexFunc(set.Services, func(s plan.Service) bool { return s.Backend == backend })
		if _, again := left[backend]; again || i < 0 || !a.leaveOut(&set, i, good, left, err) {
			return set, nil, nil
		}
	}
	return set, left, blamed
}

// leaveOut takes one service out of settings, or puts in what it was.
func (a *Agent) leaveOut(set *Settings, i int, good []byte, left map[string]leftOut, because error) bool {
	svc := set.Services[i]
	r, options, isKept, err := set.Renderer.(divisible).Without(svc.Backend, good)
	_, runs := a.known.observed.Backends[svc.Backend]
	if err != nil || !isKept && runs && a.known.observed.Running {
		return false
	}
	left[svc.Backend] = leftOut{service: svc.Name, because: because, before: isKept}
	set.Renderer = r
	if isKept {
		if was, known := a.ran[svc.Backend]; known {
			set.Services[i] = was
		}
		set.Services[i].Options = options
		set.Services[i].Defaults = "" // it has its own, which HAProxy does not have by that name
		set.Services[i].Operator = r.(divisible).Operator(svc.Backend)
		set.Services[i].Checked = slices.Contains(strings.Fields(options), "check")
		return true
	}
	set.Services = slices.Delete(set.Services, i, i+1)
	return true
}

// goodContent is a content of the file that HAProxy took.
func (a *Agent) goodContent() []byte {
	if good := a.lastGood().read(a.file); good != nil {
		return good
	}
	if a.known.observed.Running {
		return nil
	}
	content, err := a.file.Read() // it was valid when it was written
	if err != nil {
		return nil
	}
	return content
}

// syncIsolated looks whether what was asked for has become valid by itself,
// and gives the time until it is to be called again. New settings are tried at
// once.
func (a *Agent) syncIsolated(ctx context.Context, p plan.Plan) time.Duration {
	k := &a.isolated
	file, ok := a.file.(prober)
	if len(k.left) == 0 || !ok {
		return time.Hour
	}
	if k.trial != nil {
		return time.Hour // its end wakes the loop
	}
	if wait := time.Until(k.next); wait > 0 {
		return wait
	}
	t, renderer, good, pid := &trial{}, k.asked.Renderer, a.lastGood(), 0
	if a.known.observed.Running {
		pid = a.known.observed.PID
	}
	k.trial = t
	go func() {
		var content []byte
		if content, t.err = renderer.Render(p.File); t.err == nil {
			if t.err = a.bindable(content, good.read(a.file), pid); t.err != nil {
				t.isCheap = true
			} else {
				t.err = file.Try(ctx, content)
			}
		}
		a.tried <- t
	}()
	return time.Hour
}

// noteTried takes how a trial went. One of before the newest settings tells
// nothing.
func (a *Agent) noteTried(ctx context.Context, t *trial) {
	k := &a.isolated
	if t != k.trial || ctx.Err() != nil {
		return
	}
	k.trial = nil
	if t.isCheap {
		k.next = time.Now().Add(retryMin)
		return
	}
	if t.err != nil {
		k.attempts++
		k.next = time.Now().Add(min(retryMin<<min(k.attempts, 10), retryMax))
		return
	}
	a.log.Info("rejected service configuration accepted", "services", len(k.left))
	a.adopt(k.asked)
}

// bindable looks whether a new worker could listen on all that a content has,
// beside the one with this process id, which runs another; pid 0: none runs. nil
// also means that it can't be told.
func (a *Agent) bindable(content, runs []byte, pid int) error {
	file, ok := a.file.(binder)
	if !ok || pid == 0 {
		return nil
	}
	return file.Bindable(content, runs, pid)
}

// leftOutState is what is left out, for people.
func (a *Agent) leftOutState() []LeftOutState {
	out := []LeftOutState{}
	for _, backend := range slices.Sorted(maps.Keys(a.isolated.left)) {
		l := a.isolated.left[backend]
		out = append(out, LeftOutState{Service: l.service, Backend: backend, AsBefore: l.before, Error: text(l.because)})
	}
	return out
}

package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// How an entry is kept.
const (
	sessionTTL = 20 * time.Second
	renewEvery = 5 * time.Second
	writeEvery = 500 * time.Millisecond
	lastWrite  = 10 * time.Second
)

// LockedError says that a deployment of the service is under way.
type LockedError struct{ By Deployment }

func (e *LockedError) Error() string {
	if e.By.ID == "" {
		return "another deployment is under way"
	}
	return fmt.Sprintf("another deployment is under way: version %q, started by %q at %s", e.By.Version, e.By.By, e.By.Started.Format(time.RFC3339))
}

// Entry is a deployment that is being recorded, under the lock.
type Entry struct {
	book    *Book
	service string
	session string
	lost    context.CancelCauseFunc // ends the deployment

	mu    sync.Mutex
	is    Deployment
	isNew bool // since it was last written

	end  context.CancelFunc
	done chan struct{}
}

// Begin takes the lock and records a deployment that begins. The context ends, with
// the cause, should another deployment get the lock meanwhile. A *LockedError says
// that one is under way.
func (b *Book) Begin(ctx context.Context, d Deployment) (context.Context, *Entry, error) {
	e := &Entry{book: b, service: d.Service, is: d, done: make(chan struct{})}
	if err := e.lock(ctx); err != nil {
		return ctx, nil, err
	}
	if err := e.write(ctx); err != nil {
		return ctx, nil, errors.Join(err, b.KV.End(context.WithoutCancel(ctx), e.session))
	}
	ctx, e.lost = context.WithCancelCause(ctx)
	var own context.Context
	own, e.end = context.WithCancel(context.WithoutCancel(ctx))
	go e.keep(own)
	return ctx, e, nil
}

// lock makes a session and takes the key for it.
func (e *Entry) lock(ctx context.Context) error {
	page, err := e.book.Read(ctx, e.service)
	if err != nil {
		return err
	}
	switch {
	case page.IsLocked:
		return page.locked()
	case page.Problem != "":
		return page.unreadable()
	}
	session, err := e.book.KV.NewSession(ctx, "pointsman deploy "+e.service, sessionTTL)
	if err != nil {
		return fmt.Errorf("lock of %s: %w", e.service, err)
	}
	isDone, err := e.acquire(ctx, page.value, session)
	if err == nil && isDone {
		e.session = session
		return nil
	}
	err = errors.Join(err, e.book.KV.End(context.WithoutCancel(ctx), session))
	if err != nil {
		return fmt.Errorf("lock of %s: %w", e.service, err)
	}
	if page, err = e.book.Read(ctx, e.service); err != nil {
		return err
	}
	return page.locked()
}

// acquire takes the key. Consul refuses that for a second (the lock delay) after a
// session that had it has ended without unlocking it.
func (e *Entry) acquire(ctx context.Context, value []byte, session string) (bool, error) {
	for begun := time.Now(); ; {
		isDone, err := e.book.KV.Acquire(ctx, folder.Key(e.service), value, session)
		if isDone || err != nil || time.Since(begun) > 2*time.Second {
			return isDone, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
		if page, err := e.book.Read(ctx, e.service); err != nil || page.IsLocked {
			return false, err
		}
	}
}

func (p Page) locked() error {
	err := &LockedError{}
	if len(p.Deployments) > 0 && p.Deployments[0].Outcome == "" {
		err.By = p.Deployments[0]
	}
	return err
}

// unreadable is the error of a value that is no document. It is not overwritten.
func (p Page) unreadable() error {
	return fmt.Errorf("record of %s: key %s in Consul: %s; delete it, or deploy with --no-lock", p.Service, folder.Key(p.Service), p.Problem)
}

// Begins notes that a step begins, and that the one before has ended. What the
// deployment replaces is noted, too: a process that is killed writes no result.
func (e *Entry) Begins(s deploy.Step) {
	e.Update(func(d *Deployment) {
		if n := len(d.Steps); n > 0 && d.Steps[n-1].Ended.IsZero() {
			d.Steps[n-1].Ended = s.Started
		}
		d.OldVersion = cmp.Or(s.OldVersion, d.OldVersion)
		d.Steps = append(d.Steps, s)
	})
}

// Update changes the deployment; it is written soon, by others.
func (e *Entry) Update(change func(*Deployment)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.is)
	e.is.Updated = time.Now()
	e.isNew = true
}

// End writes the result and unlocks. An error says that the result is not recorded.
func (e *Entry) End(ctx context.Context, r deploy.Result) error {
	e.end()
	<-e.done
	e.Update(func(d *Deployment) {
		d.Outcome, d.Ended, d.OldVersion, d.Count, d.LoadBalancers = r.Outcome, time.Now(), r.OldVersion, r.Count, slices.Clone(r.LoadBalancers)
		for _, p := range r.Problems {
			d.Problems = append(d.Problems, p.String())
		}
		endSteps(d, r.Outcome)
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	err := e.write(ctx)
	return errors.Join(err, e.book.KV.End(ctx, e.session))
}

func endSteps(d *Deployment, o deploy.Outcome) {
	if n := len(d.Steps); n > 0 && d.Steps[n-1].Ended.IsZero() {
		d.Steps[n-1].Ended = time.Now()
		d.Steps[n-1].Failed = o != deploy.Deployed && o != deploy.Already
	}
}

// keep renews the session and writes what is new, until the entry ends.
func (e *Entry) keep(ctx context.Context) {
	defer close(e.done)
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	write := time.NewTicker(writeEvery)
	defer write.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			if isThere, err := e.book.KV.Renew(ctx, e.session); err == nil && !isThere {
				e.again(ctx)
			}
		case <-write.C:
			e.mu.Lock()
			isNew := e.isNew
			e.mu.Unlock()
			if isNew {
				_ = e.write(ctx) // tried again, and told at the end
			}
		}
	}
}

// again takes the lock once more: Consul has lost the session, as in a restart of its
// agent. If another deployment has it by now, this one ends.
func (e *Entry) again(ctx context.Context) {
	err := e.lock(ctx)
	if _, isLocked := errors.AsType[*LockedError](err); isLocked {
		e.lost(fmt.Errorf("lock lost: %w", err))
	}
}

// write puts the deployment first in the document. What another has put there stays.
func (e *Entry) write(ctx context.Context) error {
	e.mu.Lock()
	is := e.is
	is.Steps, is.LoadBalancers, is.Problems = slices.Clone(is.Steps), slices.Clone(is.LoadBalancers), slices.Clone(is.Problems)
	e.isNew = false
	e.mu.Unlock()
	for range 3 {
		page, err := e.book.Read(ctx, e.service)
		if err != nil {
			return e.due(err)
		}
		if page.Problem != "" {
			return e.due(page.unreadable())
		}
		page.Deployments = slices.DeleteFunc(page.Deployments, func(d Deployment) bool { return d.ID == is.ID })
		page.Deployments = slices.Insert(page.Deployments, 0, is)
		value, err := page.encode()
		if err != nil {
			return e.due(err)
		}
		isDone, err := e.book.KV.Swap(ctx, folder.Key(e.service), value, page.index)
		if isDone || err != nil {
			return e.due(err)
		}
	}
	return e.due(errors.New("the record changes all the time"))
}

// due notes that a failed write is due still.
func (e *Entry) due(err error) error {
	if err == nil {
		return nil
	}
	e.mu.Lock()
	e.isNew = true
	e.mu.Unlock()
	return fmt.Errorf("record of %s: %w", e.service, err)
}

package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"
)

// RequestStatus is how far a reload is that an operator has asked for.
type RequestStatus string

// The statuses, in the order of a life.
const (
	RequestDue      RequestStatus = "due"       // it waits, as every reload may
	RequestUnderWay RequestStatus = "under_way" // a reload has begun since it was made
	RequestDone     RequestStatus = "done"      // a new worker serves
	RequestFailed   RequestStatus = "failed"    // the previous configuration is still active
)

// ReloadRequest is a reload that an operator has asked for. Number and At name it: a
// sidecar that starts counts from 1 again.
type ReloadRequest struct {
	Number int           `json:"number"`
	By     string        `json:"by"`
	At     time.Time     `json:"at"`
	Status RequestStatus `json:"status"`
	Ended  time.Time     `json:"ended,omitzero"`
	Error  string        `json:"error,omitempty"` // HAProxy's words, of one that failed

	pid int // of the worker that served when it failed
}

// HasEnded reports whether the request was done or has failed.
func (r ReloadRequest) HasEnded() bool { return r.Status == RequestDone || r.Status == RequestFailed }

// Requested is the newest request of an operator, or the zero value.
func (s *State) Requested() (q ReloadRequest) {
	if n := len(s.ReloadRequests); n > 0 {
		q = s.ReloadRequests[n-1]
	}
	return q
}

// keptRequests is how many of the newest requests the state has. Two at most have not
// ended: one that a reload is under way for, and one that has come since.
const keptRequests = 8

// reloadOrder is a request on its way to the loop.
type reloadOrder struct {
	by     string
	answer chan<- reloadOrdered // room for one
}

type reloadOrdered struct {
	request ReloadRequest
	err     error
}

// ErrNothingToReload says that no HAProxy answers.
var ErrNothingToReload = errors.New("nothing to reload: HAProxy does not run or cannot be read")

// errStopped is of a request that was due when HAProxy stopped.
var errStopped = errors.New("HAProxy stopped before the reload; it loads its file when it starts")

// RequestReload makes a reload of HAProxy due, with the limits of every reload, and gives
// the request as the State has it from then on. It does not wait for the reload. One that
// is due already serves both. It waits for the loop, or until ctx ends.
func (a *Agent) RequestReload(ctx context.Context, by string) (ReloadRequest, error) {
	answer := make(chan reloadOrdered, 1)
	select {
	case a.orders <- reloadOrder{by, answer}:
	case <-ctx.Done():
		return ReloadRequest{}, context.Cause(ctx)
	}
	r := <-answer // the loop has taken it, and does nothing else before
	return r.request, r.err
}

// takeOrder takes a request. What failed before is tried at once, as the operator may have
// put right what was wrong.
func (a *Agent) takeOrder(o reloadOrder) {
	r := &a.reloads
	if !a.known.observed.Running {
		o.answer <- reloadOrdered{err: ErrNothingToReload}
		return
	}
	if is := r.due(); is != nil {
		o.answer <- reloadOrdered{request: *is}
		return
	}
	r.requested++
	request := ReloadRequest{Number: r.requested, By: o.by, At: time.Now().UTC(), Status: RequestDue}
	r.requests = append(r.requests, request)
	r.requests = r.requests[max(0, len(r.requests)-keptRequests):]
	if soonest := r.last.Add(a.set.ReloadInterval); soonest.Before(r.notBefore) {
		r.notBefore = soonest
	}
	a.log.Info("reload requested", "by", o.by)
	o.answer <- reloadOrdered{request: request}
}

// due is the request that no reload has begun for; nil: there is none.
func (r *reloadKeeper) due() *ReloadRequest {
	if i := slices.IndexFunc(r.requests, func(q ReloadRequest) bool { return q.Status == RequestDue }); i >= 0 {
		return &r.requests[i]
	}
	return nil
}

// isRequested reports whether there is a request that has not ended.
func (r *reloadKeeper) isRequested() bool {
	return slices.ContainsFunc(r.requests, func(q ReloadRequest) bool { return !q.HasEnded() })
}

// move gives the requests of one status another.
func (r *reloadKeeper) move(from, to RequestStatus, pid int, err error) {
	for i := range r.requests {
		q := &r.requests[i]
		if q.Status != from {
			continue
		}
		if q.Status, q.Error = to, text(err); q.HasEnded() {
			q.Ended, q.pid = time.Now().UTC(), pid
		}
	}
}

package load

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Load is one run of requests.
type Load struct {
	config  Config
	targets targets
	fresh   *http.Transport // a connection for each request
	record  recorder
	flying  atomic.Int64 // requests under way
	started atomic.Bool
}

// New checks the configuration and starts nothing. The error joins one
// FieldError for each field that is wrong.
func New(c Config) (*Load, error) {
	var errs []error
	for _, bad := range c.Validate() {
		errs = append(errs, bad)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	l := &Load{config: c, fresh: newTransport(c, false)}
	l.targets.set(c)
	return l, nil
}

// Run sends requests until the context is done or the duration is over, waits
// for those under way, Timeout at the longest, and reports. A Load runs once:
// the only error is that of a second Run.
func (l *Load) Run(ctx context.Context) (Report, error) {
	if l.started.Swap(true) {
		return Report{}, errors.New("load: run: it has run already")
	}
	start := time.Now()
	l.record.begin(start)
	var flying sync.WaitGroup
	for i := range schedule(ctx, start, l.config.Rate, l.config.Duration) {
		r := l.newRequest(i)
		if l.flying.Add(1) > int64(l.config.MaxInFlight) {
			l.flying.Add(-1)
			l.overrun(r)
			continue
		}
		flying.Go(func() {
			defer l.flying.Add(-1)
			// Not ctx: its end stops the schedule, and requests under way are
			// to be answered.
			l.carryOut(context.WithoutCancel(ctx), r)
		})
	}
	flying.Wait()
	l.fresh.CloseIdleConnections()
	l.targets.close()
	return l.record.report(time.Now()), nil
}

// SetTargets replaces the targets, at any time. New requests take turns over
// these; those under way finish where they are. Connections to a target that
// stays are kept, and those to one that left are closed as soon as no request
// is on them. The error is a FieldError, and changes nothing.
func (l *Load) SetTargets(to []*url.URL) error {
	c := l.config
	c.Targets = to
	for _, bad := range c.Validate() {
		return bad
	}
	l.targets.set(c)
	return nil
}

// Snapshot tells how the run goes. It may be called at any time.
func (l *Load) Snapshot() Snapshot {
	s := l.record.snapshot(time.Now())
	s.InFlight = int(l.flying.Load())
	return s
}

// carryOut sends a request and records what came of it.
func (l *Load) carryOut(ctx context.Context, r request) {
	l.finish(r, l.do(ctx, r))
	r.to.used()
}

// finish records the outcome of a request and tells of it.
func (l *Load) finish(r request, o outcome) {
	now := time.Now()
	latency := now.Sub(r.due)
	if first := l.record.add(now, r.method, latency, o); first && l.config.OnServer != nil {
		l.config.OnServer(Server{Instance: o.instance, Version: o.version, Target: r.to.name})
	}
	l.tell(now, latency, r, o)
}

// overrun records a request that could not be sent.
func (l *Load) overrun(r request) {
	now := time.Now()
	o := failed(Overrun, "%d requests are under way already", l.config.MaxInFlight)
	l.record.add(now, r.method, unsent, o)
	l.tell(now, now.Sub(r.due), r, o)
}

func (l *Load) tell(now time.Time, latency time.Duration, r request, o outcome) {
	if o.cause == "" || l.config.OnFailure == nil {
		return
	}
	l.config.OnFailure(Failure{
		Time: now, Latency: latency, Target: r.to.name, Method: r.method, ID: r.id, Fresh: r.fresh,
		Cause: o.cause, Detail: o.detail,
	})
}

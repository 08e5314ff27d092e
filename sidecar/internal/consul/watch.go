package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// watch asks for one service in one datacenter, again and again, and writes what it learns into
// its Source. It may do so as long as it is the one in Source.watches.
type watch struct {
	service Service
	source  *Source
	log     hclog.Logger
	cancel  context.CancelFunc
	late    *time.Timer // ends the wait for its first answer; nil: nothing but that will do
	own     []Listener  // see Addresses.Own; the Source's mutex guards it
	// refusesPort: the last answer has an agent port that the rules refuse. Other
	// listeners may let it in.
	refusesPort atomic.Bool

	names   *names        // nil: host names are refused
	unknown chan struct{} // one value: an answer has a name that was never looked up
	mu      sync.Mutex    // held while an answer is judged and published; guards what registrations are named
	last    struct {
		all   []*registration
		index uint64
	}

	// These are run's own.
	decoder       *decoder
	zoneless      bool            // the log has that the agent's node has no zone
	isZoneUnknown bool            // the log has that the agent does not say its node's: it is asked again with each query
	remarked      map[string]bool // the remarks that the log has
}

// run asks until ctx ends. After a failure it waits, and starts from the
// beginning: the index of a catalog that has been lost would block for minutes
// in the one that took its place.
func (w *watch) run(ctx context.Context) {
	var beside sync.WaitGroup
	defer beside.Wait()
	defer w.cancel()
	if w.names != nil {
		beside.Go(func() { w.lookUpNames(ctx) })
	}
	if w.late != nil {
		defer w.late.Stop()
	}
	follow(ctx, func(from cursor) (cursor, float64, error) {
		next, news, err := w.once(ctx, from)
		if news {
			return next, costNews, err
		}
		return next, costNothing, err
	}, w.failed)
}

// follow asks until ctx ends, each time from where the answer before left off, no faster
// than what the answers cost allows. After an error, which failed is given, it waits and
// starts over.
func follow(ctx context.Context, once func(from cursor) (next cursor, cost float64, err error), failed func(error)) {
	var from cursor
	var paced pace
	for failures := 0; sleep(ctx, paced.delay(time.Now())); {
		next, cost, err := once(from)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			failed(err)
			if !sleep(ctx, backoff(failures)) {
				return
			}
			from = cursor{}
		default:
			from, failures = next, 0
			paced.spend(time.Now(), cost)
		}
	}
}

// once asks one time, and publishes what came. It gives where the next query
// starts, and whether the answer brought anything new.
func (w *watch) once(ctx context.Context, from cursor) (next cursor, news bool, err error) {
	if w.service.PreferZone && (from == (cursor{}) || w.isZoneUnknown) {
		aside(func() {
			if w.findZone(ctx) {
				from = cursor{} // also what has not changed gets other roles
			}
		})
	}
	got, err := w.source.client.ask(ctx, &w.service, from, w.decoder)
	if errors.Is(err, errYounger) {
		return cursor{}, false, nil
	}
	if err == nil {
		aside(func() { next, news, err = w.judge(ctx, from, got) })
	}
	return next, news, err
}

// judge publishes an answer that may be used.
func (w *watch) judge(ctx context.Context, from cursor, got answer) (next cursor, news bool, err error) {
	next, usable, err := from.next(got.meta, w.source.options.MaxStale)
	if err != nil {
		return cursor{}, false, fmt.Errorf("ask %s: %w", w.source.client.endpoint, err)
	}
	next.asOf = got.received
	if !usable {
		return next, false, nil
	}
	return w.take(ctx, got, next, from == cursor{})
}

// take publishes a usable answer. It gives next, or where the query is to begin
// again.
func (w *watch) take(ctx context.Context, got answer, next cursor, isFirst bool) (_ cursor, news bool, err error) {
	before := w.known()
	var hosts []string
	if w.names != nil {
		if hosts = hostsOf(got.all); isFirst && w.names.lacks(hosts) {
			w.names.refresh(ctx, hosts) // nothing of ours may seem gone
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rules := w.rules()
	listed, err := w.list(ctx, got.all, rules)
	if err != nil {
		return cursor{}, false, err
	}
	w.remark(listed.remarks)
	if got.streamed && (lost(before.Instances, listed.instances) || lostClaim(before.Claims, listed.claims)) {
		// A streamed answer does not say whether it is consistent. Only the
		// leader's may take an instance away, and it is asked at once.
		return cursor{}, false, nil
	}
	w.last.all, w.last.index = got.all, got.index
	news, current := w.publish(w.service.answer(listed, got.index), rules)
	if w.names != nil && w.names.lacks(hosts) {
		notify(w.unknown)
	}
	if !current {
		return cursor{}, false, nil // it is asked for again, and judged by the new rules
	}
	return next, news, nil
}

// known is what it has published, or the watch before it, as its datacenter says it.
func (w *watch) known() catalog.Service {
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	return w.source.parts[w.service.origin()].said
}

// rules are the rules for addresses that are in force.
func (w *watch) rules() Addresses {
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	rules := w.service.Addresses
	rules.Own = w.own
	return rules
}

// list returns the instances that have the service's tags and that its rules admit. An error is that this
// cannot be said now.
func (w *watch) list(ctx context.Context, all []*registration, rules Addresses) (listing, error) {
	var unknown error
	isHere := here()
	listed := list(all, admission{
		Addresses: rules, max: w.service.MaxInstances, resolve: w.names.resolver(), isHere: isHere,
		isOwnNode: func(name, datacenter string) (bool, string) {
			is, why, err := w.source.own.is(ctx, name, datacenter, cmp.Or(w.service.from, w.source.options.Datacenter), isHere)
			unknown = errors.Join(unknown, err)
			return is, why
		},
	})
	w.refusesPort.Store(slices.ContainsFunc(listed.remarks, func(r catalog.Rejection) bool { return errors.Is(r.Err, errAgentPort) }))
	return listed, unknown
}

// publish makes an answer known, and reports whether it differs from what was.
// current is false where it was judged by other rules than those of now.
func (w *watch) publish(now catalog.Service, rules Addresses) (news, current bool) {
	s := w.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[w.service.origin()] != w {
		return false, true // the watch was ended meanwhile
	}
	if !slices.Equal(rules.Own, w.own) {
		return false, false
	}
	p := s.parts[w.service.origin()]
	news = !now.Equal(p.said)
	if p.health.Err != nil {
		w.log.Info("Consul query succeeded again", "was", p.health.Err)
	}
	p.health.Answered, p.health.Err = time.Now(), nil
	if news {
		w.logChange(p.said, now)
	}
	p.said, p.Service = now, w.service.placed(now)
	s.parts[w.service.origin()] = p
	s.merge(w.service)
	return news, true
}

// failed records why there is no answer. What is known stays as it is.
func (w *watch) failed(err error) {
	err = fmt.Errorf("consul: %s: %w", w.service.text(), err)
	s := w.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[w.service.origin()] != w {
		return
	}
	p := s.parts[w.service.origin()]
	if p.health.Err == nil {
		w.log.Warn("Consul query failed, keeping last known instances", "error", err,
			"known", p.Known, "answered", p.health.Answered)
	}
	p.health.Err = err
	s.parts[w.service.origin()] = p
	s.noteHealth(w.service)
}

// logChange says in one line what an answer changed, and in one line each what
// is newly wrong with an instance.
func (w *watch) logChange(before, now catalog.Service) {
	args := []any{"instances", len(now.Instances), "was", len(before.Instances), "known", before.Known, "rejected", len(now.Rejected)}
	if len(w.service.Tags) > 0 {
		args = append(args, "untagged", len(now.Untagged))
	}
	info, warn := w.log.Info, w.log.Warn
	if w.service.Quiet {
		info, warn = w.log.Debug, w.log.Debug
	}
	info("instances changed", append(args, "index", now.Index)...)
	old := make(map[string]bool, len(before.Rejected))
	for _, r := range before.Rejected {
		old[rejectionText(r)] = true
	}
	if is, was := now.BeyondLimit(), before.BeyondLimit(); is > 0 && was == 0 {
		w.log.Warn("instances beyond max_instances ignored", "max_instances", w.service.MaxInstances, "ignored", is)
	} else if is == 0 && was > 0 {
		w.log.Info("no instance beyond max_instances any more", "max_instances", w.service.MaxInstances)
	}
	for _, r := range now.Rejected {
		if r.IsBeyondLimit() {
			continue
		}
		if text := rejectionText(r); !old[text] {
			warn("invalid instance ignored", "instance", text)
		}
	}
}

// remark logs what is newly odd about instances that are used all the same.
func (w *watch) remark(remarks []catalog.Rejection) {
	now := make(map[string]bool, len(remarks))
	for _, r := range remarks {
		text := rejectionText(r)
		if now[text] = true; !w.remarked[text] && !w.service.Quiet {
			w.log.Warn("invalid service meta ignored", "instance", text)
		}
	}
	w.remarked = now
}

// rejectionText quotes what anyone can have registered.
func rejectionText(r catalog.Rejection) string {
	// Joined errors have a line each.
	return fmt.Sprintf("%.100q on %.100q: %s", r.ID, r.Node, strings.ReplaceAll(r.Err.Error(), "\n", "; "))
}

// aside runs f on a stack of its own, and waits for it. A goroutine keeps the stack
// that it once needed, and each service has one that nearly always only waits: in 4 KiB,
// as long as what it does besides is done aside.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// sleep waits for d, and reports whether ctx is still alive after it.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

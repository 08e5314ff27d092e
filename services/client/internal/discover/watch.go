package discover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/zap"
)

// Watch follows one service. First comes before Run; neither may be called
// from two goroutines.
type Watch struct {
	config Config
	path   *url.URL
	health *api.Health
	log    *zap.Logger

	index    uint64 // of the last answer; 0 asks for an answer at once
	known    map[string]*url.URL
	refused  map[string]bool // instances that cannot be used, by ID, as they were logged
	failures int             // queries in a row
	empty    bool            // the last answer named no instance
	asked    time.Time       // when the last query was sent
}

// First waits for the first targets and gives them. The error, once ctx ends,
// says what there was instead.
func (w *Watch) First(ctx context.Context) ([]*url.URL, error) {
	why := errors.New("no answer from Consul")
	for {
		_, err := w.ask(ctx)
		switch {
		case len(w.known) > 0:
			return sorted(w.known), nil
		case ctx.Err() != nil: // what was said before says more
		case err != nil:
			why = err
		default:
			why = fmt.Errorf("no instance of %q passes its checks", w.config.Service)
		}
		if cause := w.pause(ctx); cause != nil {
			return nil, fmt.Errorf("discover: %w (%w)", why, cause)
		}
	}
}

// Run follows the service until ctx ends. It calls onChange whenever the
// targets are others than before; they are sorted, and at least one.
func (w *Watch) Run(ctx context.Context, onChange func(targets []*url.URL)) {
	for {
		changed, err := w.ask(ctx)
		if err == nil && changed {
			onChange(sorted(w.known))
		}
		if w.pause(ctx) != nil {
			return
		}
	}
}

// ask sends one query, takes its answer and reports whether that changed the
// targets. An error has been logged.
func (w *Watch) ask(ctx context.Context) (changed bool, err error) {
	w.asked = time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: w.index, WaitTime: wait}).WithContext(bounded)
	entries, meta, err := w.health.Service(w.config.Service, "", true, options)
	if err == nil && meta.LastIndex == 0 {
		err = errors.New("an answer without X-Consul-Index: is this Consul?")
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx) // asked for no longer
	}
	w.note(err)
	if err != nil {
		w.index = 0 // another Consul may answer next
		return false, fmt.Errorf("consul: %w", err)
	}
	w.index = meta.LastIndex // a lower one, too: the answer is Consul's newest
	return w.take(entries), nil
}

// note logs when Consul is lost, and when it is back.
func (w *Watch) note(err error) {
	switch {
	case err != nil && w.failures == 0:
		w.log.Warn("Consul query failed, keeping current targets", zap.Error(err))
	case err == nil && w.failures > 0:
		w.log.Info("Consul query succeeded again", zap.Int("failed_queries", w.failures))
	}
	if err == nil {
		w.failures = 0
	} else {
		w.failures++
	}
}

// pause waits until the next query may be sent, or gives why ctx ended before.
// After failures the wait grows up to 5 s, with full jitter.
func (w *Watch) pause(ctx context.Context) error {
	d := time.Until(w.asked.Add(pace))
	if w.failures > 0 {
		const longest = 5 * time.Second
		d = pace + rand.N(min(2*pace<<min(w.failures, 10), longest))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

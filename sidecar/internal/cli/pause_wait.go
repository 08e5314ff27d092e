package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// pauseQuiet is how long no server may have been sent anything: a request that HAProxy is
// about to send again, to the only server that there is, waits for a second meanwhile and is
// at none (docs/haproxy-facts.md, fact 45). What a sidecar answers may be 0.1 s old.
const pauseQuiet = 1200 * time.Millisecond

// The pace of the wait.
const (
	pausePace  = 100 * time.Millisecond
	pauseAsked = 2 * time.Second // for one sidecar

	pausesAtOnce = 8
)

// pauseWait waits until no server has a request of a service, on every load balancer.
type pauseWait struct {
	service string
	list    func(context.Context) ([]deploy.Balancer, error)
	ask     func(context.Context, deploy.Balancer) (sidecarapi.Pause, error) // deploy.ErrNotRouted: it does not route the service
	least   int                                                              // load balancers that there must be
	close   func()

	known []deploy.Balancer
	seen  map[string]*seenPause // by load balancer
}

// seenPause is what a load balancer has last said.
type seenPause struct {
	sidecarapi.Pause
	err   error
	since time.Time // since when it has sent nothing to a server and none has a request
}

// reach finds the ways to Consul and to the sidecars.
func (w *pauseWait) reach(cfg config.Config, env Env, o *sidecarOptions) error {
	all, balancers, err := o.reach(cfg, env, w.service)
	if err != nil {
		return &exitError{Code: ExitUsage, Err: err}
	}
	client := balancers.client
	w.least, w.close = max(1, o.loadBalancers), func() { client.Close(); all.reader.Close() }
	w.list = func(ctx context.Context) ([]deploy.Balancer, error) {
		list, err := all.Balancers(ctx)
		return slices.DeleteFunc(list, func(b deploy.Balancer) bool { return slices.Contains(o.without, b.Name) }), err
	}
	w.ask = func(ctx context.Context, b deploy.Balancer) (sidecarapi.Pause, error) {
		if b.Problem != "" {
			return sidecarapi.Pause{}, errors.New(b.Problem)
		}
		p, err := client.Pause(ctx, balancers.target(b), w.service)
		return p, balancers.failed(b, err)
	}
	return nil
}

// check refuses a pause that a load balancer would not have.
func (w *pauseWait) check(ctx context.Context) error {
	if err := w.look(ctx); err != nil {
		return err
	}
	return w.problems(func(s *seenPause) string { return s.Problem })
}

// await looks until every load balancer has the pause and no server has a request.
func (w *pauseWait) await(ctx context.Context, until time.Time, wait time.Duration) error {
	end := time.Now().Add(wait)
	for wait > 0 {
		if err := w.look(ctx); err != nil {
			return err
		}
		now := time.Now()
		err := w.problems(func(s *seenPause) string {
			switch {
			case !s.Until.Equal(until):
				return "sidecar has not read this pause yet"
			case !s.Applied:
				return "HAProxy does not have the pause" + strings.TrimSuffix(": "+s.Problem, ": ")
			case s.AtServers > 0:
				return fmt.Sprintf("requests at servers: %d", s.AtServers)
			case now.Sub(s.since) < pauseQuiet:
				return "requests at servers: 0, but not long enough yet"
			}
			return ""
		})
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case !now.Before(end):
			return fmt.Errorf("not paused within %s: %w", wait, err)
		}
		daemon.Sleep(ctx, pausePace)
	}
	return nil
}

// look asks every load balancer. While Consul does not answer, those that it listed last
// are asked.
func (w *pauseWait) look(ctx context.Context) error {
	list, err := w.list(ctx)
	switch {
	case err == nil && len(list) < w.least:
		return fmt.Errorf("%d load balancers are registered that route the service, want at least %d", len(list), w.least)
	case err == nil:
		w.known = list
	case len(w.known) == 0:
		return err
	}
	var mu sync.Mutex
	seen := map[string]*seenPause{}
	var group errgroup.Group
	group.SetLimit(pausesAtOnce)
	for _, b := range w.known {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, pauseAsked)
			defer cancel()
			p, err := w.ask(ctx, b)
			if errors.Is(err, deploy.ErrNotRouted) {
				return nil
			}
			s := &seenPause{Pause: p, err: err, since: time.Now()} // from when it is known on
			mu.Lock()
			defer mu.Unlock()
			if was := w.seen[b.Name]; was != nil && was.err == nil && err == nil && was.Attempts == p.Attempts && was.AtServers == 0 && was.Until.Equal(p.Until) && was.Applied {
				s.since = was.since
			}
			seen[b.Name] = s
			return nil
		})
	}
	_ = group.Wait() // none fails
	w.seen = seen
	if len(seen) == 0 {
		return errors.New("no load balancer routes the service")
	}
	return nil
}

// problems joins what is wrong with each load balancer.
func (w *pauseWait) problems(of func(*seenPause) string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(w.seen)) {
		s := w.seen[name]
		err := s.err
		if text := ""; err == nil {
			if text = of(s); text != "" {
				err = errors.New(text)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", catalog.Printable(name), err))
		}
	}
	return errors.Join(errs...)
}

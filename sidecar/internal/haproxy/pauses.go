package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// pauseSince is the first release with `http-request pause`.
var pauseSince = release{3, 2}

// ProgramPauses reports from what `haproxy -v` prints whether this HAProxy can make requests
// wait. Of another program it is true: that tells nothing.
func ProgramPauses(output string) (version string, can bool) {
	caps := ProgramCapabilities(output)
	return caps.Version, caps.Version == "" || releaseOf(caps.Version).atLeast(pauseSince)
}

// Held is the requests of some backends, in the current worker and in old ones.
type Held struct {
	AtServers int // that servers work on, or that wait for a free server
	Waiting   int // the others: those that a pause holds
	// Attempts counts what servers were ever sent, and what of that was tried again. A
	// request that is about to be tried again is at no server for up to a second
	// (docs/haproxy-facts.md, fact 45): while this number changes there may be one.
	Attempts uint64
}

// Held counts. As with Traffic, old workers that cannot be counted are an error.
func (c *Client) Held(ctx context.Context, backends []string) (Held, error) {
	h, pid, err := readHeld(ctx, repeated(c.ask), backends)
	if err != nil || c.master == (endpoint{}) {
		return h, err
	}
	var mu sync.Mutex
	err = c.eachOldWorker(ctx, pid, func(ask asker) error {
		old, _, err := readHeld(ctx, ask, backends)
		mu.Lock()
		defer mu.Unlock()
		h.AtServers += old.AtServers
		h.Waiting += old.Waiting
		h.Attempts += old.Attempts
		return err
	})
	return h, err
}

// eachOldWorker does something in each old worker, in several at once, so that one that does
// not answer does not hold up the others. One that has ended meanwhile is none.
func (c *Client) eachOldWorker(ctx context.Context, current int, do func(asker) error) error {
	workers, err := c.oldWorkers(ctx, current)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(maxAsked)
	errs := make([]error, len(workers))
	for i, pid := range workers {
		group.Go(func() error {
			if err := do(c.oldWorker(pid)); err != nil && !errors.Is(err, errNoWorker) {
				errs[i] = fmt.Errorf("haproxy: old worker %d: %w", pid, err)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	return errors.Join(errs...)
}

func readHeld(ctx context.Context, ask asker, backends []string) (h Held, pid int, err error) {
	const what = "requests that wait"
	i, all, err := readBackends(ctx, ask, what, backends)
	if err != nil {
		return Held{}, 0, err
	}
	for _, b := range all {
		if err := h.add(b); err != nil {
			return Held{}, 0, fmt.Errorf("haproxy: %s: %w", what, err)
		}
	}
	return h, i.pid, nil
}

// add adds one backend. Its sessions are all of its requests, also those that no server
// has.
func (h *Held) add(b backendRows) error {
	all, atServers := 0, 0
	err := b.each(func(r *row) error {
		if r.number("type") == backendType {
			all += r.number("scur")
			atServers += r.number("qcur")
			return r.err
		}
		atServers += r.number("scur") + r.number("qcur")
		h.Attempts += r.count("stot") + r.count("wretr") + r.count("econ")
		return r.err
	})
	h.AtServers += atServers
	h.Waiting += max(0, all-atServers)
	return err
}

// UpdateOldMaps brings a map of the old workers to what is wanted: requests that a pause
// holds there are to go on, too. A worker that does not have the map is left alone.
func (c *Client) UpdateOldMaps(ctx context.Context, file string, want route.Map) error {
	if c.master == (endpoint{}) {
		return nil
	}
	current, _, err := infoAnd(ctx, repeated(c.ask), "old workers")
	if err != nil {
		return err
	}
	return c.eachOldWorker(ctx, current.pid, func(ask asker) error {
		text, err := ask(ctx, []string{"show map " + file})
		if err != nil || strings.HasPrefix(text, unknownMap) {
			return err
		}
		have, err := parseMap(text)
		if err != nil {
			return err
		}
		for _, change := range route.UpdateOf(have, want.Table()).Changes {
			command := commandOf(file, change)
			reply, err := ask(ctx, []string{command})
			if err == nil {
				err = silent(tidy(reply))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
		}
		return nil
	})
}

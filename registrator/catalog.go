package registrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/contract"
)

// lookPeriod is how often Consul is asked for the sidecars during a handshake:
// one that came back at another address is to be found soon.
const lookPeriod = time.Second

// catalog is what a leaving program needs of Consul. It is used by one goroutine
// at a time.
type catalog struct {
	health      *api.Health
	service, id string // the program's
	mark        string // that says it leaves
	sidecars    string // the service of the sidecars
	others      others // of other datacenters

	node  string    // where it is registered; known with the mark
	own   string    // and in which datacenter
	seen  uint64    // the index of the last answer about the service
	index uint64    // of the last one since the mark shows
	read  time.Time // when that was
}

// view is what Consul says at one moment.
type view struct {
	index    uint64 // of an answer about the service that shows the mark, or came after
	sidecars []sidecar
	filtered bool // the token may not read all

	// superseded: another has registered under the program's ID, on its node.
	superseded bool
}

var errNoMark = errors.New("leaving mark not visible in Consul yet")

// shows waits until Consul's servers show the mark. The agent that has taken it
// passes it on in its own time: an index from before that would let a load
// balancer answer that has not heard of it.
func (c *catalog) shows(ctx context.Context) error {
	for {
		entries, meta, err := c.entry(ctx, c.seen)
		if err != nil {
			if c.seen > 0 {
				err = fmt.Errorf("%w: %w", errNoMark, err)
			}
			c.seen = 0
			return err
		}
		if i := slices.IndexFunc(entries, c.isMarked); i >= 0 {
			c.node, c.own = entries[i].Node.Node, entries[i].Node.Datacenter
			c.index, c.read = meta.LastIndex, time.Now()
			return nil
		}
		if meta.LastIndex <= c.seen {
			c.seen = 0
			return errNoMark
		}
		c.seen = meta.LastIndex
	}
}

func (c *catalog) isMarked(e *api.ServiceEntry) bool {
	return c.isOwn(e) && e.Service.Meta[contract.KeyDrain] == c.mark
}

// isOwn reports whether an entry is the program's, or one that took its place.
func (c *catalog) isOwn(e *api.ServiceEntry) bool {
	return e != nil && e.Node != nil && e.Service != nil && e.Service.ID == c.id && (c.node == "" || e.Node.Node == c.node)
}

func (c *catalog) isOtherProcess(e *api.ServiceEntry) bool { return c.isOwn(e) && !c.isMarked(e) }

// entry reads the program's own entry, and of the service the index.
func (c *catalog) entry(ctx context.Context, after uint64) ([]*api.ServiceEntry, *api.QueryMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	options := &api.QueryOptions{WaitIndex: after, WaitTime: callTimeout / 2, Filter: isID("Service.ID", c.id)}
	return c.health.Service(c.service, "", false, options.WithContext(ctx))
}

// isID is a filter of Consul's for entries with the ID, or none where the
// filter's language has its own ways for a character in it.
func isID(field, id string) string {
	if strings.ContainsAny(id, "\"\\\n") {
		return ""
	}
	return field + ` == "` + id + `"`
}

// look reads the sidecars, and whose the program's entry is; and where the last
// one is old, an index: should Consul have lost its data, the one of the mark
// would never come again.
func (c *catalog) look(ctx context.Context) (view, error) {
	var v view
	others := c.others.ask(ctx, c)
	if own, meta, err := c.entry(ctx, 0); err == nil {
		v.superseded = slices.ContainsFunc(own, c.isOtherProcess)
		if time.Since(c.read) >= askWait {
			c.index, c.read = meta.LastIndex, time.Now()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// Also those whose check does not pass: their HAProxy may still serve.
	entries, meta, err := c.health.Service(c.sidecars, "", false, (&api.QueryOptions{}).WithContext(ctx))
	more, isFiltered := others()
	if err != nil {
		return view{}, err
	}
	v.index, v.sidecars, v.filtered = c.index, append(sidecarsOf(entries, c.service, c.own, ""), more...), meta.ResultsFilteredByACLs || isFiltered
	return v, nil
}

// watch returns what Consul says, again and again. While it can't be read, what
// was said last holds.
func (c *catalog) watch(ctx context.Context, every time.Duration, last view, to chan<- view, log hclog.Logger) {
	lost := false
	for pause(ctx, every) == nil {
		now, err := c.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !lost {
				log.Warn("Consul query for sidecars failed, asking known sidecars", "error", err)
			}
			lost = true
			continue
		}
		lost = false
		if now.index == last.index && now.superseded == last.superseded && slices.EqualFunc(now.sidecars, last.sidecars, func(a, b sidecar) bool { return a.key == b.key && a.isAt(b) }) {
			continue
		}
		last = now
		select {
		case to <- now:
		case <-ctx.Done():
			return
		}
	}
}

package haproxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Traffic is what a HAProxy has to do, in the current worker and in old ones.
type Traffic struct {
	// UnderWay counts requests, in TCP mode connections: those that a server
	// works on and those that wait for one. A client's connection that is kept
	// between two requests is none (seen on 2.6 to 3.4: a backend's scur leaves
	// it out, a frontend's does not).
	UnderWay int
	// Begun counts those that have ever begun, in the current worker. It begins
	// again with a worker.
	Begun uint64
	// OldWorkers is how many workers of before a reload UnderWay includes.
	OldWorkers int
}

// Traffic counts what goes on in these backends. Old workers need a master
// socket; where there is one and it cannot tell, that is an error: unknown is
// not zero.
func (c *Client) Traffic(ctx context.Context, backends []string) (Traffic, error) {
	current, pid, err := readTraffic(ctx, repeated(c.ask), backends)
	if err != nil || c.master == (endpoint{}) {
		return current, err
	}
	var mu sync.Mutex
	err = c.eachOldWorker(ctx, pid, func(ask asker) error {
		old, _, err := readTraffic(ctx, ask, backends)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			current.UnderWay += old.UnderWay
			current.OldWorkers++
		}
		return err
	})
	if err != nil {
		return Traffic{}, err
	}
	return current, nil
}

// allBackends asks for one line for each backend (type 2) of each proxy.
const allBackends = "show stat -1 2 -1"

func readTraffic(ctx context.Context, ask asker, backends []string) (Traffic, int, error) {
	i, replies, err := infoAnd(ctx, ask, "traffic", allBackends)
	if err != nil {
		return Traffic{}, 0, err
	}
	t, err := parseTraffic(replies[0], backends)
	if err != nil {
		return Traffic{}, 0, fmt.Errorf("haproxy: traffic: %w", err)
	}
	return t, i.pid, nil
}

// parseTraffic adds up the lines of the backends in a reply to `show stat`
// (management manual 9.1). One that HAProxy does not have has none.
func parseTraffic(reply string, backends []string) (t Traffic, err error) {
	err = eachStat(reply, nil, func(columns, fields []string) error {
		r := row{columns: columns, fields: fields}
		if name, what := r.text("pxname"), r.text("svname"); r.err == nil && what == "BACKEND" && slices.Contains(backends, name) {
			t.UnderWay += r.number("scur")
			t.Begun += r.count("stot")
		}
		return r.err
	})
	if err != nil {
		return Traffic{}, err
	}
	return t, nil
}

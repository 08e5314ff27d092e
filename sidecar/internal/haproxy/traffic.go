package haproxy

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
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
	text, err := ask(ctx, []string{"show info", allBackends})
	if err != nil {
		return Traffic{}, 0, err
	}
	replies, err := eachReply(text, 2)
	if err != nil {
		return Traffic{}, 0, fmt.Errorf("haproxy: traffic: %w", err)
	}
	i, err := parseInfo(replies[0])
	if err != nil {
		return Traffic{}, 0, fmt.Errorf("haproxy: traffic: %w", err)
	}
	t, err := parseTraffic(replies[1], backends)
	if err != nil {
		return Traffic{}, 0, fmt.Errorf("haproxy: traffic: %w", err)
	}
	return t, i.pid, nil
}

// parseTraffic adds up the lines of the backends in a reply to `show stat`
// (management manual 9.1). One that HAProxy does not have has none.
func parseTraffic(reply string, backends []string) (Traffic, error) {
	table, isTable := strings.CutPrefix(reply, "# ")
	if !isTable {
		return Traffic{}, fmt.Errorf("show stat: %w: %s", ErrUnexpectedReply, excerpt(reply))
	}
	rows := csv.NewReader(strings.NewReader(table))
	rows.FieldsPerRecord, rows.LazyQuotes = -1, true
	columns, err := rows.Read()
	if err != nil {
		return Traffic{}, fmt.Errorf("show stat: header: %w", err)
	}
	var t Traffic
	for {
		fields, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return Traffic{}, fmt.Errorf("show stat: %w", err)
		}
		if err := t.add(columns, fields, backends); err != nil {
			return Traffic{}, fmt.Errorf("show stat: %w in %s", err, excerpt(strings.Join(fields, ",")))
		}
	}
}

func (t *Traffic) add(columns, fields, backends []string) error {
	r := row{columns: columns, fields: fields}
	if name, what := r.text("pxname"), r.text("svname"); r.err != nil || what != "BACKEND" || !slices.Contains(backends, name) {
		return r.err
	}
	t.UnderWay += r.number("scur")
	begun, err := strconv.ParseUint(r.text("stot"), 10, 64)
	if err != nil {
		r.fail(fmt.Errorf("%w: stot: not a number", ErrUnexpectedReply))
	}
	t.Begun += begun
	return r.err
}

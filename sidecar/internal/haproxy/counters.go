package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Counters are what the current worker has counted of a server since it began. A slot
// of HAProxy 2.6 goes on counting when it gets another instance.
type Counters struct {
	Requests uint64 // that it was chosen for; in TCP mode connections
	// Errors are answers 5xx of it, connections to it that failed, and answers that
	// broke off. A request that was tried several times may count as several.
	Errors  uint64
	Retries uint64 // attempts to connect after the first
	// ResponseTime is until the first byte of the answer, in whole milliseconds: a
	// mean of the last 512 requests or so (TIME_STATS_SAMPLES; the manual says 1024).
	ResponseTime time.Duration
	// Weight is that of new requests while the server is up, SlowStart how far its slow start
	// is, in percent; 0 is none.
	Weight, SlowStart int
}

// Counters reads those of a backend's servers, by their names. A backend that HAProxy
// does not have has none.
func (c *Client) Counters(ctx context.Context, backend string) (map[string]Counters, error) {
	_, all, err := readBackends(ctx, repeated(c.ask), "counters of "+backend, []string{backend})
	if err != nil {
		return nil, err
	}
	counters, err := countersIn(all[0])
	if err != nil {
		return nil, fmt.Errorf("haproxy: counters of %s: %w", backend, err)
	}
	return counters, nil
}

func countersIn(b backendRows) (map[string]Counters, error) {
	all := map[string]Counters{}
	err := b.each(func(r *row) error {
		if r.number("type") != serverType {
			return r.err
		}
		name := strings.Clone(r.text("svname"))
		all[name] = Counters{
			Requests:     r.count("stot"),
			Errors:       r.count("hrsp_5xx") + r.count("econ") + r.count("eresp"),
			Retries:      r.count("wretr"),
			ResponseTime: time.Duration(r.optional("rtime")) * time.Millisecond,
			Weight:       r.number("weight"),
			SlowStart:    r.optional("throttle"),
		}
		return r.err
	})
	return all, err
}

// count reads a counter of 64 bits that may be empty, as those of HTTP are in TCP mode: 0.
func (r *row) count(column string) uint64 {
	if i := slices.Index(r.columns, column); i >= 0 && i < len(r.fields) && r.fields[i] == "" {
		return 0
	}
	text := r.text(column)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		r.fail(fmt.Errorf("%w: %s %q: not a number of 0 or more", ErrUnexpectedReply, column, text))
	}
	return n
}

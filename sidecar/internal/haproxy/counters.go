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

// Answers are what the current worker has counted of a backend's answers since it began. Those
// by HAProxy are counted for the backend only, which keeps what servers gave that are deleted since.
type Answers struct {
	Requests               uint64
	Status4xx, Status5xx   uint64 // that clients got
	Service4xx, Service5xx uint64 // of these, those that servers gave which are there now
	// NoServer is HAProxy's 503: no server was up, the wait for one was too long, or none could
	// be connected to. Broken is where the answer of a server broke off, or came too late, as with
	// its 502 and 504; HAProxy 3.4 counts some twice. Denied is what its rules have refused, with
	// any status.
	NoServer, Broken, Denied uint64
}

// BackendCounters are those of a backend, and of its servers by their names.
type BackendCounters struct {
	Answers Answers
	Servers map[string]Counters
}

// Counters reads those of a backend. One that HAProxy does not have has no servers.
func (c *Client) Counters(ctx context.Context, backend string) (BackendCounters, error) {
	_, all, err := readBackends(ctx, repeated(c.ask), "counters of "+backend, []string{backend})
	if err != nil {
		return BackendCounters{}, err
	}
	counters, err := countersIn(all[0])
	if err != nil {
		return BackendCounters{}, fmt.Errorf("haproxy: counters of %s: %w", backend, err)
	}
	return counters, nil
}

func countersIn(b backendRows) (BackendCounters, error) {
	all, is := map[string]Counters{}, Answers{}
	err := b.each(func(r *row) error {
		if r.number("type") != serverType {
			is.Requests, is.Status4xx, is.Status5xx = r.count("stot"), r.count("hrsp_4xx"), r.count("hrsp_5xx")
			is.NoServer, is.Broken, is.Denied = r.count("econ"), r.count("eresp"), r.count("dreq")
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
		is.Service4xx, is.Service5xx = is.Service4xx+r.count("hrsp_4xx"), is.Service5xx+r.count("hrsp_5xx")
		return r.err
	})
	return BackendCounters{is, all}, err
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

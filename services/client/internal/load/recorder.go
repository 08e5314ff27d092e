package load

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// maxNames bounds the instances and versions that are counted apart, since
	// the servers name themselves.
	maxNames   = 1000
	otherNames = "(other)"

	// maxSeries is how many seconds a report tells of: the last hour.
	maxSeries = 3600

	// maxLatency is the longest latency that is counted apart.
	maxLatency = 10 * time.Minute

	// unsent stands for the latency of a request that was never sent. It
	// counts as a failure and not among the latencies.
	unsent time.Duration = -1
)

// recorder counts outcomes, in all and by second.
type recorder struct {
	mu    sync.Mutex
	start time.Time // zero before the run
	all   tally
	post  uint64 // failed POSTs
	now   tally  // of the second that is under way
	nth   int    // that second's number, from 0
	past  []Second
	known map[Server]bool // without Target
}

// tally is what happened in a stretch of time.
type tally struct {
	requests, failed uint64
	causes           map[Cause]uint64
	versions         map[string]uint64
	instances        map[string]uint64
	latency          *hdrhistogram.Histogram // microseconds
}

func newTally() tally {
	t := tally{
		causes:    make(map[Cause]uint64, len(Causes)),
		versions:  make(map[string]uint64),
		instances: make(map[string]uint64),
		latency:   hdrhistogram.New(1, maxLatency.Microseconds(), 3),
	}
	for _, c := range Causes {
		t.causes[c] = 0
	}
	return t
}

func (r *recorder) begin(start time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start, r.all, r.now, r.known = start, newTally(), newTally(), make(map[Server]bool)
}

// add counts one request and reports whether its answer is the first from
// that server.
func (r *recorder) add(at time.Time, method string, latency time.Duration, o outcome) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roll(at)
	r.all.add(latency, o)
	r.now.add(latency, o)
	if o.cause != "" {
		if method == http.MethodPost {
			r.post++
		}
		return false
	}
	server := Server{Instance: o.instance, Version: o.version}
	if o.instance == "" || r.known[server] || len(r.known) >= maxNames {
		return false
	}
	r.known[server] = true
	return true
}

func (t *tally) add(latency time.Duration, o outcome) {
	t.requests++
	if latency != unsent {
		// Within the histogram's bounds, which is the only way to fail.
		_ = t.latency.RecordValue(min(max(latency, 0), maxLatency).Microseconds())
	}
	if o.cause != "" {
		t.failed++
		t.causes[o.cause]++
		return
	}
	count(t.versions, o.version)
	count(t.instances, o.instance)
}

func count(counts map[string]uint64, name string) {
	if name == "" {
		return // an answer without it
	}
	if _, known := counts[name]; !known && len(counts) >= maxNames {
		name = otherNames
	}
	counts[name]++
}

// roll closes the seconds that are over. r.mu is held.
func (r *recorder) roll(at time.Time) {
	nth := int(at.Sub(r.start) / time.Second)
	if nth <= r.nth {
		return
	}
	r.past = append(r.past, r.now.second(r.nth))
	r.now.reset()
	// Seconds in which nothing was answered are reported, too.
	for empty := max(r.nth+1, nth-maxSeries); empty < nth; empty++ {
		r.past = append(r.past, r.now.second(empty))
	}
	r.nth = nth
	if extra := len(r.past) - maxSeries; extra > 0 {
		r.past = append(r.past[:0], r.past[extra:]...)
	}
}

func (t *tally) reset() {
	t.requests, t.failed = 0, 0
	clear(t.causes)
	clear(t.versions)
	clear(t.instances)
	t.latency.Reset()
}

func (t *tally) second(nth int) Second {
	return Second{
		Second:   nth,
		Requests: t.requests,
		Failed:   t.failed,
		P50:      t.quantile(50),
		P99:      t.quantile(99),
		Max:      milliseconds(t.latency.Max()),
		Versions: maps.Clone(t.versions),

		Histogram: t.encoded(),
	}
}

func (t *tally) encoded() string {
	if t.latency.TotalCount() == 0 {
		return ""
	}
	text, err := t.latency.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return "" // it writes to memory; only a cookie that it doesn't know fails
	}
	return string(text)
}

// quantile returns a percentile of the latency in milliseconds.
func (t *tally) quantile(percent float64) float64 {
	return milliseconds(t.latency.ValueAtQuantile(percent))
}

func milliseconds(microseconds int64) float64 { return float64(microseconds) / 1000 }

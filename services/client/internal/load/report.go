package load

import (
	"maps"
	"time"
)

// Report is the result of a run. Latencies are in milliseconds, from when a
// request was due to its last byte or its failure; requests that were never
// sent (Overrun) have none.
type Report struct {
	Name    string    `json:"name"` // whose run it was; Run leaves it empty
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"` // until the last answer

	Requests         uint64           `json:"requests"` // that were due, failed ones included
	Failed           uint64           `json:"failed"`
	Failures         map[Cause]uint64 `json:"failures"` // every cause, also those that didn't occur
	FailedIdempotent uint64           `json:"failed_idempotent"`
	FailedPost       uint64           `json:"failed_post"`

	Rate float64 `json:"rate"` // requests a second
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`

	Versions  map[string]uint64 `json:"versions"`  // successes by version
	Instances map[string]uint64 `json:"instances"` // successes by instance

	Series []Second `json:"latency_series"` // of the last hour, by the second in which requests ended
}

// Second is what ended in one second of a run.
type Second struct {
	Second   int               `json:"second"` // since the start, from 0
	Requests uint64            `json:"requests"`
	Failed   uint64            `json:"failed"`
	P50      float64           `json:"p50_ms"`
	P99      float64           `json:"p99_ms"`
	Max      float64           `json:"max_ms"`
	Versions map[string]uint64 `json:"versions"` // successes by version

	// Histogram has all latencies, in microseconds, so that the seconds of
	// several clients can be added up: percentiles can't. It is HdrHistogram's
	// compressed format V2 in base64, "" if nothing was sent.
	Histogram string `json:"histogram"`
}

func (r *recorder) report(end time.Time) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roll(end)
	if r.now.requests > 0 {
		r.past = append(r.past, r.now.second(r.nth))
	}
	out := Report{
		Started:  r.start,
		Seconds:  end.Sub(r.start).Seconds(),
		Requests: r.all.requests, Failed: r.all.failed, Failures: maps.Clone(r.all.causes),
		FailedIdempotent: r.all.failed - r.post, FailedPost: r.post,
		P50: r.all.quantile(50), P90: r.all.quantile(90), P99: r.all.quantile(99), Max: milliseconds(r.all.latency.Max()),
		Versions: maps.Clone(r.all.versions), Instances: maps.Clone(r.all.instances),
		Series: append([]Second{}, r.past...),
	}
	if out.Seconds > 0 {
		out.Rate = float64(out.Requests) / out.Seconds
	}
	return out
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pointsman/pointsman/test/lab"
)

// result is the last line on stdout.
type result struct {
	Requests      uint64            `json:"requests"`
	Failed        uint64            `json:"failed"`
	ReloadsDeploy int               `json:"reloads_deploy"` // while 1.1 took the place of 1.0
	ReloadsTotal  int               `json:"reloads_total"`  // one more for the second service's backend, before 3.4
	Routed        float64           `json:"routed_seconds"` // from the start of the second service until its host is served
	P99Before     float64           `json:"p99_ms_before"`  // before the deployment, from when requests were due
	P99During     float64           `json:"p99_ms_during"`  // while it went on
	ApplyP50      float64           `json:"apply_ms_p50"`   // from Consul's answer until HAProxy was seen to run it
	ApplyP99      float64           `json:"apply_ms_p99"`
	Versions      map[string]uint64 `json:"versions"` // answers of each version
	HAProxy       string            `json:"haproxy"`

	requestsWanted int
}

// add adds up the clients' reports.
func (r *result) add(reports []lab.Report, m marks) error {
	r.Versions = map[string]uint64{}
	before, during := latencies(), latencies()
	for _, c := range reports {
		r.Requests += c.Requests
		r.Failed += c.Failed
		for v, n := range c.Versions {
			r.Versions[v] += n
		}
		for _, s := range c.Series {
			if s.Histogram == "" {
				continue // nothing was answered in it
			}
			h, err := hdrhistogram.Decode([]byte(s.Histogram))
			if err != nil {
				return fmt.Errorf("%s: second %d: %w", c.Name, s.Second, err)
			}
			switch at := c.Started.Add(time.Duration(s.Second) * time.Second); {
			case at.Before(m.load.Add(time.Second)):
				// Connections are being made for the first time.
			case at.Add(time.Second).Before(m.deploy):
				before.Merge(h)
			case at.Before(m.done):
				during.Merge(h)
			}
		}
	}
	r.P99Before, r.P99During = milliseconds(before), milliseconds(during)
	return nil
}

// latencies is a histogram of microseconds, as the client makes them.
func latencies() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 3) }

func milliseconds(h *hdrhistogram.Histogram) float64 {
	return float64(h.ValueAtQuantile(99)) / 1000
}

// addApplied reads the quantiles of the sidecar's histogram.
func (r *result) addApplied(metrics string) error {
	all, total, err := lab.Buckets(metrics, "pointsman_apply_seconds")
	if err == nil && total == 0 {
		err = errors.New("the sidecar has recorded no applied change")
	}
	r.ApplyP50, r.ApplyP99 = 1000*lab.Quantile(all, total, 0.5), 1000*lab.Quantile(all, total, 0.99)
	return err
}

// faults is what is wrong with the result; none is a good verdict.
func (r *result) faults() (faults []string) {
	check := func(good bool, format string, args ...any) {
		if !good {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	check(r.Failed == 0, "%d requests failed", r.Failed)
	check(r.ReloadsDeploy == 0, "the deployment took %d reloads", r.ReloadsDeploy)
	check(r.ReloadsTotal == r.reloadsOfBackend(), "%d reloads in all; the second service's backend takes %d", r.ReloadsTotal, r.reloadsOfBackend())
	check(r.Requests >= uint64(r.requestsWanted), "only %d requests were made", r.Requests)
	check(r.Versions["1.0"] > 0 && r.Versions["1.1"] > 0, "not both versions have answered: %v", r.Versions)
	return faults
}

// reloadsOfBackend is how many reloads a new backend takes: HAProxy adds it at runtime
// from 3.4 on.
func (r *result) reloadsOfBackend() int {
	var major, minor int
	if _, err := fmt.Sscanf(r.HAProxy, "%d.%d", &major, &minor); err == nil && (major > 3 || major == 3 && minor >= 4) {
		return 0
	}
	return 1
}

func (s *stage) verdict() {
	r := &s.result
	r.requestsWanted = min(s.cfg.requests, 20000)
	s.screen.say("")
	s.screen.say("  requests            %d, by version 1.0: %d, 1.1: %d", r.Requests, r.Versions["1.0"], r.Versions["1.1"])
	s.screen.say("  failed              %d", r.Failed)
	s.screen.say("  reloads             %d while deploying, %d in all (HAProxy %s)", r.ReloadsDeploy, r.ReloadsTotal, r.HAProxy)
	s.screen.say("  second service      served by its host %.1f s after its start", r.Routed)
	s.screen.say("  latency, p99        %.1f ms before the deployment, %.1f ms during it", r.P99Before, r.P99During)
	s.screen.say("  Consul to HAProxy   %.1f ms in the middle, %.1f ms at p99", r.ApplyP50, r.ApplyP99)
	s.screen.say("")
	faults := r.faults()
	if len(faults) == 0 {
		s.screen.say("Verdict: GOOD. Version 1.1 took the place of 1.0 and not one request failed.")
		return
	}
	s.screen.say("Verdict: BAD. %s.", strings.Join(faults, "; "))
	for _, c := range s.clients {
		s.screen.say("%s", c.Tail(5))
	}
}

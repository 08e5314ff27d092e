package main

import (
	"fmt"
	"strconv"
	"strings"
)

// bucket is one of a Prometheus histogram: how many samples were at most le.
type bucket struct{ le, count float64 }

// buckets reads a histogram without labels out of the text of /metrics. The
// last bucket, of all samples, has no bound and is left out.
func buckets(metrics, name string) (all []bucket, total float64, err error) {
	for line := range strings.Lines(metrics) {
		rest, found := strings.CutPrefix(line, name+`_bucket{le="`)
		bound, value, ok := strings.Cut(rest, `"} `)
		if !found || !ok {
			continue
		}
		count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, 0, fmt.Errorf("metric %s: %w", name, err)
		}
		if bound == "+Inf" {
			return all, count, nil
		}
		le, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("metric %s: %w", name, err)
		}
		all = append(all, bucket{le, count})
	}
	return nil, 0, fmt.Errorf("metric %s: not there", name)
}

// bucketQuantile guesses a quantile as Prometheus does: samples are spread
// evenly in their bucket. Above the last bound it is that bound.
func bucketQuantile(all []bucket, total, q float64) float64 {
	low, below := 0.0, 0.0
	for _, b := range all {
		if rank := q * total; b.count >= rank && b.count > below {
			return low + (b.le-low)*(rank-below)/(b.count-below)
		}
		low, below = b.le, b.count
	}
	return low
}

package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// Bucket is one of a Prometheus histogram: how many samples were at most Le.
type Bucket struct{ Le, Count float64 }

// Buckets reads a histogram without labels out of the text of /metrics. The
// last bucket, of all samples, has no bound and is left out.
func Buckets(metrics, name string) (all []Bucket, total float64, err error) {
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
		all = append(all, Bucket{le, count})
	}
	return nil, 0, fmt.Errorf("metric %s: not there", name)
}

// Quantile guesses a quantile as Prometheus does: samples are spread
// evenly in their bucket. Above the last bound it is that bound.
func Quantile(all []Bucket, total, q float64) float64 {
	low, below := 0.0, 0.0
	for _, b := range all {
		if rank := q * total; b.Count >= rank && b.Count > below {
			return low + (b.Le-low)*(rank-below)/(b.Count-below)
		}
		low, below = b.Le, b.Count
	}
	return low
}

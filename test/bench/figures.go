package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Spread is a figure over several runs.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func spread(values []float64) Spread {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return Spread{}
	}
	median := s[len(s)/2]
	if len(s)%2 == 0 {
		median = (s[len(s)/2-1] + s[len(s)/2]) / 2
	}
	return Spread{Median: median, Low: s[0], High: s[len(s)-1]}
}

// quantile returns the value in milliseconds that a share of the durations does
// not exceed.
func quantile(all []time.Duration, q float64) float64 {
	s := slices.Sorted(slices.Values(all))
	if len(s) == 0 {
		return 0
	}
	return milliseconds(s[max(0, int(math.Ceil(q*float64(len(s))))-1)])
}

func quantiles(runs [][]time.Duration, q float64) (all []float64) {
	for _, run := range runs {
		all = append(all, quantile(run, q))
	}
	return all
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// figure shows a number with two digits, or whole if it has more.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) >= 99.5:
		return thousands(int(math.Round(v)))
	case math.Abs(v) >= 9.95:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 0.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2g", v)
	}
}

func thousands(v int) string {
	if v < 1000 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%s,%03d", thousands(v/1000), v%1000)
}

package main

import (
	"context"
	"fmt"
	"strings"
)

// figures are what a sidecar takes of the machine.
type figures struct {
	RSS        int `json:"rss_kib"`
	Goroutines int `json:"goroutines"`
}

func (lb *balancer) figures(ctx context.Context) (figures, error) {
	goroutines, err := lb.Metric(ctx, "go_goroutines")
	if err != nil {
		return figures{}, err
	}
	rss, err := lb.Sidecar.RSS()
	return figures{RSS: rss, Goroutines: int(goroutines)}, err
}

// The most that a sidecar with two services may take: the design's budget for
// 10,000 instances, and some goroutines for requests that are under way.
const (
	mostRSS        = 100 << 10 // KiB
	moreGoroutines = 15
)

// worse says in what they are too much, or "".
func (f figures) worse(first figures) string {
	var bad []string
	if f.RSS > mostRSS {
		bad = append(bad, fmt.Sprintf("takes %d KiB of memory, may take %d", f.RSS, mostRSS))
	}
	if f.Goroutines > first.Goroutines+moreGoroutines {
		bad = append(bad, fmt.Sprintf("has %d goroutines, had %d at first", f.Goroutines, first.Goroutines))
	}
	return strings.Join(bad, ", ")
}

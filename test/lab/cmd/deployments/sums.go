package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// sums is the last line of the report.
type sums struct {
	Deployments int     `json:"deployments"`
	Requests    uint64  `json:"requests"`
	Failed      uint64  `json:"failed"`
	Reloads     int     `json:"reloads"`
	LeaveP50    float64 `json:"leave_ms_p50"` // from SIGTERM to a node's exit
	LeaveP99    float64 `json:"leave_ms_p99"`
	LeaveMax    float64 `json:"leave_ms_max"`
	AckP50      float64 `json:"ack_ms_p50"` // to the last load balancer's word
	AckP99      float64 `json:"ack_ms_p99"`
	Seconds     float64 `json:"seconds"`

	leaves, acks []float64
	failures     []string
}

func (s *sums) add(d deployment) {
	s.Deployments++
	s.Reloads += d.Reloads
	s.leaves = append(s.leaves, d.LeaveMS...)
	s.acks = append(s.acks, d.AckMS...)
}

func (s *sums) close(took time.Duration) {
	slices.Sort(s.leaves)
	slices.Sort(s.acks)
	s.LeaveP50, s.LeaveP99, s.LeaveMax = quantile(s.leaves, 0.5), quantile(s.leaves, 0.99), quantile(s.leaves, 1)
	s.AckP50, s.AckP99 = quantile(s.acks, 0.5), quantile(s.acks, 0.99)
	s.Seconds = math.Round(took.Seconds()*10) / 10
}

// quantile is the smallest value that so large a share does not exceed.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// faults is what is wrong; none is a good end.
func (s *sums) faults() (faults []string) {
	if s.Failed > 0 {
		faults = append(faults, fmt.Sprintf("%d requests failed: %v", s.Failed, s.failures))
	}
	if s.Reloads > 0 {
		faults = append(faults, fmt.Sprintf("%d reloads; a deployment takes none", s.Reloads))
	}
	if s.Requests == 0 {
		faults = append(faults, "no request was made")
	}
	return faults
}

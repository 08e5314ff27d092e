package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// report is the line on stdout.
type report struct {
	Seed         uint64           `json:"seed"`
	Seconds      float64          `json:"seconds"`
	Faults       map[string]int   `json:"faults"` // by kind
	Requests     uint64           `json:"requests"`
	Failed       uint64           `json:"failed"`
	P99          float64          `json:"p99_ms"` // of the client that had it worst
	Max          float64          `json:"max_ms"`
	Reloads      int64            `json:"reloads"`
	RightSeconds float64          `json:"right_after_seconds"` // from the end of the faults
	Sidecars     []sidecarFigures `json:"sidecars"`
	Wrong        []string         `json:"wrong"`

	failures []string // the clients' words
}

type sidecarFigures struct {
	Name  string  `json:"name"`
	First figures `json:"first"`
	Last  figures `json:"last"`
}

func (r report) bad() bool { return r.Failed > 0 || len(r.Wrong) > 0 }

// write prints the line, and for people what is bad.
func (r report) write(out, log io.Writer) error {
	for _, f := range r.failures {
		fmt.Fprintln(log, "FAILED:", f)
	}
	for _, w := range r.Wrong {
		fmt.Fprintln(log, "WRONG:", w)
	}
	if r.bad() {
		fmt.Fprintf(log, "BAD: %d of %d requests failed, %d things are wrong (seed %d)\n", r.Failed, r.Requests, len(r.Wrong), r.Seed)
	}
	return json.NewEncoder(out).Encode(r)
}

func round(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }

package main

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// One small row on the real programs, so that CI finds out when the harness no
// longer works. Its figures mean nothing here.
func TestMeasureRow_RealPrograms_FiguresOfSidecarAndFloor(t *testing.T) {
	programs, err := programs(t.Context())
	t.Cleanup(programs.Remove)
	if err != nil {
		t.Fatal(err)
	}
	small := latency{fleet: fleet{services: 2, instances: 5}, every: 20 * time.Millisecond, changes: 4, blocks: 1, p50: 1, p99: 1}
	cfg := config{runs: 2, profile: "always", log: io.Discard}
	r := row{name: "test", title: "two small services", limit: time.Minute, measure: func(ctx context.Context, b *bench) error {
		t.Cleanup(func() {
			if left, err := filepath.Glob(filepath.Join(b.lab.Dir(), "*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
		return small.measure(ctx, b)
	}}
	got, err := measureRow(t.Context(), cfg, programs, r)
	if err != nil {
		t.Fatal(err)
	}
	if got.Changes != 8 || len(got.Figures) != 2 || got.Machine.HAProxy == "" || got.Machine.Consul == "" {
		t.Errorf("got %+v, want two figures of 8 changes, and the versions", got)
	}
	for _, f := range got.Figures {
		if len(f.Values) != 2 || f.Values[0].Of != "sidecar" || f.Values[1].Of != "floor" || f.Values[0].Median <= 0 || f.Values[1].Median <= 0 || f.Met == nil {
			t.Errorf("got %+v, want the sidecar's and the floor's", f)
		}
	}
}

// A row that takes too long ends, and so do its processes.
func TestMeasureRow_OverItsLimit_Ends(t *testing.T) {
	consul, err := lab.FindConsul()
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	r := row{name: "test", limit: 2 * time.Second, measure: func(ctx context.Context, b *bench) error {
		s, err := b.newConsul(ctx)
		if err != nil {
			return err
		}
		pid = s.consul.PID()
		return pause(ctx, time.Minute)
	}}
	cfg := config{runs: 1, profile: "never", log: io.Discard}
	began := time.Now()
	if _, err := measureRow(t.Context(), cfg, lab.Programs{Consul: consul, HAProxy: consul}, r); err == nil {
		t.Error("got no error, want that the limit is over")
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	if _, err := cpuTime(pid); err == nil {
		t.Errorf("Consul, pid %d, still runs", pid)
	}
}

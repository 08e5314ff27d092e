package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/services/client/internal/load"
)

// progressLine tells how the run goes: totals, then the last whole second.
func progressLine(name string, s load.Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %4.0fs  %d requests  %d failed  |  %d/s  p50 %.1f  p99 %.1f  max %.1f ms",
		name, s.Elapsed.Truncate(time.Second).Seconds(), s.Requests, s.Failed,
		s.Last.Requests, s.Last.P50, s.Last.P99, s.Last.Max)
	if shares := shares(s.Last.Versions); shares != "" {
		b.WriteString("  |  " + shares)
	}
	return b.String()
}

// shares returns each version's share in whole percents, sorted by version.
func shares(versions map[string]uint64) string {
	var total uint64
	for _, n := range versions {
		total += n
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		parts = append(parts, fmt.Sprintf("%s %.0f%%", v, 100*float64(versions[v])/float64(total)))
	}
	return strings.Join(parts, "  ")
}

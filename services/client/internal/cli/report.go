package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/pointsman/pointsman/services/client/internal/load"
)

// checkReport tells before the run what would keep the report from being
// written after it.
func checkReport(file string) error {
	if file == "" {
		return nil
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return fmt.Errorf("%q: is a directory", file)
	}
	info, err := os.Stat(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("%q: its directory: %w", file, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%q: %q is not a directory", file, filepath.Dir(file))
	}
	return nil
}

// writeReport writes the report: to the file, if there is one, whole or not at
// all; and to stdout, as JSON or for people.
func writeReport(r load.Report, file string, asJSON bool, stdout io.Writer) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	text = append(text, '\n')
	if file != "" {
		if err := renameio.WriteFile(file, text, 0o644); err != nil {
			return fmt.Errorf("report: write %q: %w", file, err)
		}
	}
	if !asJSON {
		text = []byte(summary(r))
	}
	if _, err := stdout.Write(text); err != nil {
		return fmt.Errorf("report: write stdout: %w", err)
	}
	return nil
}

// summary is the report for people.
func summary(r load.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d requests in %.1f s (%.1f/s), %d failed\n", r.Name, r.Requests, r.Seconds, r.Rate, r.Failed)
	fmt.Fprintf(&b, "  latency   p50 %.1f  p90 %.1f  p99 %.1f  max %.1f ms\n", r.P50, r.P90, r.P99, r.Max)
	if len(r.Versions) > 0 {
		fmt.Fprintf(&b, "  versions %s\n", counts(r.Versions))
	}
	fmt.Fprintf(&b, "  servers  %s\n", counts(r.Instances))
	if r.Failed > 0 {
		fmt.Fprintf(&b, "  failures %s (%d of idempotent requests, %d of POST)\n", counts(r.Failures), r.FailedIdempotent, r.FailedPost)
	}
	return b.String()
}

// counts lists what was counted at all, sorted by name.
func counts[K ~string](m map[K]uint64) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			fmt.Fprintf(&b, " %s %d", k, m[k])
		}
	}
	if b.Len() == 0 {
		return " none"
	}
	return b.String()
}

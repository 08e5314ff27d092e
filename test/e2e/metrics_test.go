package e2e

import (
	"strconv"
	"strings"
	"testing"
)

// sumSamples adds up the samples of a counter that have a label of this kind;
// "" takes all.
func sumSamples(t *testing.T, text, name, kind string) (sum float64) {
	t.Helper()
	seen := false
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") {
			continue
		}
		seen = true
		if kind != "" && !strings.Contains(line, `kind="`+kind+`"`) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			t.Fatalf("metric %q: %v", line, err)
		}
		sum += v
	}
	if !seen {
		t.Fatalf("no metric %s", name)
	}
	return sum
}

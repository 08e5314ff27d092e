package metrics_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/metrics"
)

var update = flag.Bool("update", false, "write the table in docs/metrics.md")

const begin = "<!-- The rest is written by `go test ./sidecar/internal/metrics -update`. -->\n"

func TestThePageIsTheRegistry(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "metrics.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, got, found := strings.Cut(string(data), begin)
	if !found {
		t.Fatalf("%s lacks the line %q", path, begin)
	}
	want, names := reference(t)
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("%s is not what the registry says; run the test with -update (-got +want):\n%s", path, diff)
	}
	for _, used := range regexp.MustCompile(`pointsman_\w+`).FindAllString(head, -1) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(used, "")
		if !slices.Contains(names, used) && !slices.Contains(names, base) {
			t.Errorf("%s uses %s, which does not exist", path, used)
		}
	}
}

// reference returns the generated part of the page, and the names in it.
func reference(t *testing.T) (page string, names []string) {
	t.Helper()
	b := newBench(t)
	b.Update(metrics.State{Services: []metrics.Service{{Name: "api"}}})
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	page = "\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n"
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "pointsman_") {
			continue // the Go runtime's and the process's
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		page += fmt.Sprintf("| `%s` | %s | %s | %s |\n",
			f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
		names = append(names, f.GetName())
	}
	return page, names
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sample() Results {
	f := Figure{Name: "p50", Unit: "ms", Values: []Value{{"sidecar", Spread{6, 5, 7}}, {"floor", Spread{3, 3, 3}}}}
	f.setGoal(1.4, "floor", []float64{5, 6, 7}, []float64{3, 3, 3})
	return Results{Rows: []Result{{Row: rows[0].name, Title: "one", Machine: Machine{CPUs: 2, LoadBefore: 1, LoadAfter: 3}, Figures: []Figure{f}, Profile: []Spent{{"plan.Compute", 40}}}}}
}

func TestPage_NewResults_ReplaceOnlyWhatIsBetweenTheMarkers(t *testing.T) {
	results := sample()
	got, err := results.page("above\n" + begin + "old\n" + end + "below\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = "| `small-30ms` one | p50 | 6.0 (5.0 to 7.0) ms | floor: 3.0 ms | 2.00 | ≤ 1.4 × floor | missed |\n"
	if !strings.HasPrefix(got, "above\n"+begin) || !strings.HasSuffix(got, end+"below\n") || strings.Contains(got, "old") ||
		!strings.Contains(got, want) || !strings.Contains(got, "has 2 processors. Their load, before and after the rows, was 1.0 to 3.0, ") || !strings.Contains(got, "| `plan.Compute` | 40 % |\n") {
		t.Errorf("got\n%s\nwant a line\n%s", got, want)
	}
	again, err := results.page(got)
	if err != nil || again != got {
		t.Errorf("written twice: got %v\n%s\nwant no difference", err, again)
	}
}

func TestPage_NoPlace_IsAnError(t *testing.T) {
	results := sample()
	if _, err := results.page("# Page\n"); err == nil || !strings.Contains(err.Error(), "no place") {
		t.Errorf("got %v, want that there is no place", err)
	}
}

// The committed page, picture and results belong together.
func TestPage_Committed_IsMadeOfTheCommittedResults(t *testing.T) {
	results, err := readResults("results.json")
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join("..", "..", "docs")
	was, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := results.page(string(was))
	if err != nil || got != string(was) {
		t.Errorf("docs/performance.md is not what results.json says (%v): run go run ./test/bench --draw", err)
	}
	drawn, err := os.ReadFile(filepath.Join(docs, picture))
	if err != nil || string(drawn) != string(chart(results.Rows)) {
		t.Errorf("docs/%s is not what results.json says (%v): run go run ./test/bench --draw", picture, err)
	}
}

func TestResults_Put_KeepsTheOtherRowsAndTheirOrder(t *testing.T) {
	r := Results{Rows: []Result{{Row: rows[1].name, Title: "kept"}, {Row: "gone"}}}
	r.put(Result{Row: rows[0].name})
	r.put(Result{Row: rows[2].name})
	var got []string
	for _, row := range r.Rows {
		got = append(got, row.Row+row.Title)
	}
	if want := rows[0].name + " " + rows[1].name + "kept " + rows[2].name; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

package plan_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// update writes what comes out into the specification. Read the difference:
// it says what the program now does otherwise.
var update = flag.Bool("update", false, "rewrite testdata/spec with what Compute gives")

// TestSpecification runs each file of testdata/spec on the model of HAProxy, in
// the modes that it names. testdata/spec/README describes the language.
func TestSpecification(t *testing.T) {
	files, err := filepath.Glob("testdata/spec/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no specification: %v", err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		t.Run(name, func(t *testing.T) { runSpec(t, path) })
	}
}

func runSpec(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks := parseSpec(string(text))
	ran := 0
	for _, mode := range []string{"slots", "dynamic"} {
		if !modes(blocks)[mode] {
			continue
		}
		ran++
		t.Run(mode, func(t *testing.T) {
			s := newScene(t, mode == "dynamic")
			for i := range blocks {
				got, isExpected := s.run(&blocks[i])
				if !isExpected {
					continue
				}
				if *update {
					blocks[i].lines = got
					continue
				}
				want := strings.Join(blocks[i].lines, "\n")
				if got := strings.Join(got, "\n"); got != want {
					t.Fatalf("%s:%d: %s:\ngot:\n%s\n\nwant:\n%s", path, blocks[i].line, blocks[i].head, got, want)
				}
			}
		})
	}
	if ran == 0 {
		t.Fatalf("%s: no line `in slots`, `in dynamic` or `in slots and dynamic`", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(printSpec(blocks)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// block is one line at the margin with the indented lines below it.
type block struct {
	line  int    // in the file, from 1
	lead  string // comments and empty lines before it
	head  string
	lines []string // without the indentation
}

func parseSpec(text string) (blocks []block) {
	lead := ""
	for n, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case line == "", strings.HasPrefix(line, "#"):
			lead += line + "\n"
		case strings.HasPrefix(line, "  "):
			last := &blocks[len(blocks)-1]
			last.lines = append(last.lines, strings.TrimSpace(line))
		default:
			blocks = append(blocks, block{line: n + 1, lead: lead, head: line})
			lead = ""
		}
	}
	return blocks
}

func printSpec(blocks []block) string {
	var b strings.Builder
	for _, k := range blocks {
		b.WriteString(k.lead + k.head + "\n")
		for _, line := range k.lines {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}

func modes(blocks []block) map[string]bool {
	out := map[string]bool{}
	for _, b := range blocks {
		if words, ok := strings.CutPrefix(b.head, "in "); ok {
			for mode := range strings.SplitSeq(words, " and ") {
				out[mode] = true
			}
		}
	}
	return out
}

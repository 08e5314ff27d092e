package cli

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// pagesCommand is the registrator's part of a command on a page, up to the program.
var pagesCommand = regexp.MustCompile("registrator run ((?:[^`\\\\\n]|\\\\\n)*)")

// A reader who copies a command from a page gets no "unknown flag".
func TestPages_Commands_AreTheRegistrators(t *testing.T) {
	n := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/guides/*.md"} {
		pages, err := filepath.Glob("../../../../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range pagesCommand.FindAllStringSubmatch(string(text), -1) {
				line, _, _ := strings.Cut(m[1], "-- ")
				if !strings.Contains(line, "--") {
					continue // words in the text
				}
				n++
				args := strings.Fields(strings.NewReplacer("\\\n", " ", `"`, "", "'", "", "…", "").Replace(line))
				_, err := read(t, args, nil)
				if _, isName := errors.AsType[*pflag.ValueRequiredError](err); err != nil && !isName && !errors.Is(err, pflag.ErrHelp) {
					t.Errorf("%s: registrator run %s: %v", page, line, err)
				}
			}
		}
	}
	// The floor keeps a search that finds nothing from passing.
	if n < 10 {
		t.Errorf("%d commands found, want 10 at least", n)
	}
}

package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// pagesCommand is a command of ours on a page: a line of a block, with those that it goes
// on in, or words in the text.
var pagesCommand = regexp.MustCompile("(?m)(?:^(?:runuser -u pointsman -- )?|`)pointsman ((?:[^`\\\\\n]|\\\\\n)+)")

// A reader who copies a command from a page gets no "unknown flag".
func TestPages_Commands_ArePointsmans(t *testing.T) {
	n := 0
	for _, pattern := range []string{"README.md", "SECURITY.md", "docs/*.md", "docs/guides/*.md"} {
		pages, err := filepath.Glob("../../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range pagesCommand.FindAllStringSubmatch(string(text), -1) {
				args := words(m[1])
				if len(args) == 0 || strings.HasPrefix(args[0], "…") || args[0] == "--help" {
					continue // the program alone
				}
				n++
				cmd, rest, err := newRoot(Env{Args: args, Stdout: io.Discard, Stderr: io.Discard}).Find(args)
				if err == nil && !cmd.HasParent() {
					t.Errorf("%s: pointsman %s: there is no such command", page, m[1])
					continue
				}
				if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err != nil && !errors.Is(err, pflag.ErrHelp) {
					t.Errorf("%s: pointsman %s: %v", page, m[1], err)
				}
			}
		}
	}
	// The floor keeps a search that finds nothing from passing.
	if n < 120 {
		t.Errorf("%d commands found, want 120 at least", n)
	}
}

// words are those of a command line as a shell would read it, up to a comment, a pipe or
// another command.
func words(line string) (words []string) {
	line = strings.ReplaceAll(line, "\\\n", " ")
	for _, w := range regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`).FindAllString(line, -1) {
		if strings.HasPrefix(w, "#") || w == "|" || w == "&&" || w == "&" || strings.HasSuffix(w, ";") {
			break
		}
		words = append(words, strings.Trim(w, `'"`))
	}
	return words
}

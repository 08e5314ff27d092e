package architecture

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Readers are operators and developers, and many are no native speakers: what they
// read (pages, what programs print, comments, names) is in plain words.
func TestWords_EveryText_IsPlain(t *testing.T) {
	found, files := checkWords(t, os.DirFS(root), readPhrases(t))
	// The floor keeps a walk that finds nothing from passing.
	if files < 800 {
		t.Errorf("read %d files, want those of the whole tree", files)
	}
	for _, line := range found {
		t.Errorf("%s; testdata/phrases.txt has what to write instead", line)
	}
}

func TestWords_PhraseInEachPlace_IsFound(t *testing.T) {
	phrases := readPhrases(t)
	for _, test := range []struct{ name, file, text, want string }{
		{"a page", "docs/a.md", "One.\nAs Ever, two.", `docs/a.md:2: "as ever"`},
		{"the changes", "CHANGELOG.md", "- For so long.", `CHANGELOG.md:1: "so long"`},
		{"a comment of the sample", "compose/a.yaml", "a: 1\n# nobody", `compose/a.yaml:2: "nobody"`},
		{"a script", "tools/a.sh", "echo is told", `tools/a.sh:1: "is told"`},
		{"a message", "sidecar/a.go", "package a\nvar s = \"serves on\"", `sidecar/a.go:2: "serves on"`},
		{"a message behind a line's end", "sidecar/a.go", `var s = "a\nnobody"`, `sidecar/a.go:1: "nobody"`},
		{"a message of several lines", "sidecar/a.go", "package a\nvar s = `\na\nis told`", `sidecar/a.go:4: "is told"`},
		{"words between", "docs/a.md", "What is left here is x.", `docs/a.md:1: "what is left here is"`},
		{"across a sentence", "docs/a.md", "See what is left. This is x.", ""},
		{"a part of a word", "docs/a.md", "It lets gophers in.", ""},
		{"a comment", "sidecar/a.go", "package a // nobody", `sidecar/a.go:1: "nobody"`},
		{"a comment of two lines", "sidecar/a.go", "package a\n\n\t// It lets\n\t// go.", `sidecar/a.go:3: "lets go"`},
		{"a name", "sidecar/a.go", "package a\nvar nobody = 1", `sidecar/a.go:2: "nobody"`},
		{"a name of several words", "sidecar/a_test.go", "package a\nfunc TestAllHaveLetGo() {}", `sidecar/a_test.go:2: "let go"`},
		{"a name of others", "sidecar/a.go", "package a\nvar b = http.NoBody", ""},
		{"a file's name", "sidecar/a-slot-of-nobody.txt", "", `sidecar/a-slot-of-nobody.txt:1: "nobody"`},
		{"an input that a fuzz test has found", "sidecar/testdata/fuzz/a/b", "nobody", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, _ := checkWords(t, fstest.MapFS{test.file: {Data: []byte(test.text)}}, phrases)
			if got := strings.Join(found, "\n"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// readPhrases makes one expression of the list. A phrase may go on in the next line
// of a comment.
func readPhrases(t *testing.T) *regexp.Regexp {
	t.Helper()
	list, err := os.ReadFile("testdata/phrases.txt")
	if err != nil {
		t.Fatal(err)
	}
	const space = `(?: |\n[\t ]*(?://|#) )`
	var parts []string
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		phrase, instead, _ := strings.Cut(line, ": ")
		if instead == "" {
			t.Fatalf("testdata/phrases.txt: %q: nothing to write instead", line)
		}
		phrase = strings.ReplaceAll(phrase, " … ", `(?: [\w-]+){1,3} `)
		parts = append(parts, strings.ReplaceAll(phrase, " ", space))
	}
	return regexp.MustCompile(`\b(?:` + strings.Join(parts, "|") + `)\b`)
}

// written are the endings, or names, of files that people write and read.
var written = []string{
	".cfg", ".css", ".go", ".html", ".js", ".md", ".service", ".sh", ".tmpl", ".toml", ".txt", ".yaml", ".yml",
	"Dockerfile", "Makefile", "README",
}

var (
	// hump and capital are where a name goes on with another word, next is where a
	// comment goes on with another line.
	hump    = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	capital = regexp.MustCompile(`([A-Z])([A-Z][a-z])`)
	next    = regexp.MustCompile(`\s*\n[\t ]*(?://|#) `)
)

// checkWords gives a line for each phrase in a file or its name, and counts the
// files that it has read.
func checkWords(t *testing.T, tree fs.FS, phrases *regexp.Regexp) (found []string, files int) {
	t.Helper()
	walk(t, tree, func(name string) {
		// The list itself, and its test.
		if strings.HasPrefix(name, "test/architecture/testdata/") || name == "test/architecture/words_test.go" {
			return
		}
		if !slices.ContainsFunc(written, func(ending string) bool { return strings.HasSuffix(name, ending) }) {
			return
		}
		files++
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(`\n`, "  ", "nobody:x:", "").Replace(string(data)) // a user of /etc/passwd
		text = capital.ReplaceAllString(hump.ReplaceAllString(text, "$1 $2"), "$1 $2")
		for _, text := range []string{name, strings.ToLower(text)} {
			for _, at := range phrases.FindAllStringIndex(text, -1) {
				phrase := next.ReplaceAllString(text[at[0]:at[1]], " ")
				found = append(found, fmt.Sprintf("%s:%d: %q", name, 1+strings.Count(text[:at[0]], "\n"), phrase))
			}
		}
	})
	return found, files
}

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

// A phrase is what must not be written, word by word; "…" stands for one to three words.
type phrase []string

// readPhrases reads the list, by the first word of each phrase.
func readPhrases(t *testing.T) map[string][]phrase {
	t.Helper()
	list, err := os.ReadFile("testdata/phrases.txt")
	if err != nil {
		t.Fatal(err)
	}
	phrases := map[string][]phrase{}
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, instead, _ := strings.Cut(line, ": ")
		if instead == "" {
			t.Fatalf("testdata/phrases.txt: %q: nothing to write instead", line)
		}
		words := strings.Fields(text)
		phrases[words[0]] = append(phrases[words[0]], words)
	}
	return phrases
}

// end returns where a text leaves the phrase that it begins with, or -1.
func (p phrase) end(text string) int {
	if len(p) == 0 {
		return 0
	}
	if p[0] == "…" {
		at, found := 0, -1
		for range 3 {
			word := wordAt(text[at:], true)
			if word == 0 {
				break
			}
			at += word
			if next := spaceAt(text[at:]); next > 0 {
				if rest := p[1:].end(text[at+next:]); rest >= 0 {
					found = at + next + rest // the longest counts
				}
				at += next
				continue
			}
			break
		}
		return found
	}
	word := wordAt(text, false)
	if text[:word] != p[0] {
		return -1
	}
	if len(p) == 1 {
		return word
	}
	space := spaceAt(text[word:])
	if space == 0 {
		return -1
	}
	if rest := p[1:].end(text[word+space:]); rest >= 0 {
		return word + space + rest
	}
	return -1
}

// wordAt returns the length of the word that a text begins with.
func wordAt(text string, hyphens bool) int {
	for i, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && (c != '-' || !hyphens) {
			return i
		}
	}
	return len(text)
}

// spaceAt returns the length of what may stand between two words of a phrase: a space, or
// the end of a comment's line and the beginning of the next.
func spaceAt(text string) int {
	if strings.HasPrefix(text, " ") {
		return 1
	}
	below, isEnd := strings.CutPrefix(text, "\n")
	if !isEnd {
		return 0
	}
	below = strings.TrimLeft(below, "\t ")
	for _, mark := range []string{"// ", "# "} {
		if after, isComment := strings.CutPrefix(below, mark); isComment {
			return len(text) - len(after)
		}
	}
	return 0
}

// find gives each phrase of a text in lower case, and where it begins.
func find(text string, phrases map[string][]phrase, found func(at int, phrase string)) {
	for at := 0; at < len(text); {
		word := wordAt(text[at:], false)
		if word == 0 {
			at++
			continue
		}
		for _, p := range phrases[text[at:at+word]] {
			if end := p.end(text[at:]); end >= 0 {
				found(at, text[at:at+end])
				word = end
				break
			}
		}
		at += word
	}
}

// written are the endings, or names, of files that people write and read.
var written = []string{
	".cfg", ".css", ".go", ".html", ".js", ".md", ".service", ".sh", ".tmpl", ".toml", ".txt", ".yaml", ".yml",
	"Dockerfile", "Makefile", "README",
}

// next is where a comment goes on with another line.
var next = regexp.MustCompile(`\s*\n[\t ]*(?://|#) `)

// lower makes a text's letters small, and names of several words several words.
func lower(text string) string {
	var out strings.Builder
	out.Grow(len(text) + len(text)/8)
	isLower := func(i int) bool { return i < len(text) && text[i] >= 'a' && text[i] <= 'z' }
	for i := range len(text) {
		c := text[i]
		if c < 'A' || c > 'Z' {
			out.WriteByte(c)
			continue
		}
		if i > 0 {
			before := text[i-1]
			isHump := isLower(i-1) || before >= '0' && before <= '9'
			if isHump || before >= 'A' && before <= 'Z' && isLower(i+1) {
				out.WriteByte(' ')
			}
		}
		out.WriteByte(c + 'a' - 'A')
	}
	return out.String()
}

// checkWords returns a line for each phrase in a file or its name, and counts the
// files that it has read.
func checkWords(t *testing.T, tree fs.FS, phrases map[string][]phrase) (found []string, files int) {
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
		for _, text := range []string{name, lower(text)} {
			find(text, phrases, func(at int, phrase string) {
				found = append(found, fmt.Sprintf("%s:%d: %q", name, 1+strings.Count(text[:at], "\n"), next.ReplaceAllString(phrase, " ")))
			})
		}
	})
	return found, files
}

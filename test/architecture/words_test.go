package architecture

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// Readers are operators, and many are no native speakers: what they read, the
// pages and what the programs print, is written in plain words.
func TestWords_PagesAndMessages_ArePlain(t *testing.T) {
	found, texts := checkWords(t, os.DirFS(root), readPhrases(t))
	// The floor keeps a walk that finds nothing from passing.
	if texts < 3000 {
		t.Errorf("read %d texts, want those of the whole tree", texts)
	}
	for _, line := range found {
		t.Errorf("%s; testdata/phrases.txt has what to write instead", line)
	}
}

func TestWords_PhraseInEachPlace_IsFound(t *testing.T) {
	phrases := readPhrases(t)
	for _, test := range []struct{ name, file, text, want string }{
		{"a page", "docs/a.md", "One.\nAs Ever, two.", `docs/a.md:2: "As Ever"`},
		{"the changes", "CHANGELOG.md", "- For so long.", `CHANGELOG.md:1: "so long"`},
		{"a comment of the sample", "compose/a.yaml", "a: 1\n# nobody", `compose/a.yaml:2: "nobody"`},
		{"a message", "registrator/a.go", "package a\nvar s = \"serves on\"", `registrator/a.go:2: "serves on"`},
		{"a message of several lines", "registrator/a.go", "package a\nvar s = `\na\nis told`", `registrator/a.go:4: "is told"`},
		{"words between", "docs/a.md", "What is left here is x.", `docs/a.md:1: "What is left here is"`},
		{"across a sentence", "docs/a.md", "See what is left. This is x.", ""},
		{"a part of a word", "docs/a.md", "It lets gophers in.", ""},
		{"a comment of the code", "registrator/a.go", "package a // nobody", ""},
		{"a name", "registrator/a.go", "package a\nvar nobody = 1", ""},
		{"an import", "registrator/a.go", "package a\nimport _ \"x/nobody\"", ""},
		{"a test", "registrator/a_test.go", "package a\nvar s = \"nobody\"", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, _ := checkWords(t, fstest.MapFS{test.file: {Data: []byte(test.text)}}, phrases)
			if got := strings.Join(found, "\n"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// plainInComments are the trees whose comments and names of tests keep to plain words.
var plainInComments = []string{"registrator", "test"}

// unclear are phrases that those comments had.
var (
	unclear     = regexp.MustCompile(`(?i)\bnobody\b|\bso many\b|\blet(?:s|ting)? go\b`)
	unclearName = regexp.MustCompile("Nobody|SoMany|LetsGo|HasLetGo")
)

func TestWords_CommentsAndTests_ArePlain(t *testing.T) {
	for _, line := range checkComments(t, os.DirFS(root)) {
		t.Errorf("%s; testdata/phrases.txt has what to write instead", line)
	}
	for text, want := range map[string]string{
		"package a // nobody asks":               `registrator/a.go:1: "nobody"`,
		"package a\n/* one\nlets go\n*/":         `registrator/a.go:3: "lets go"`,
		"package a\nfunc TestNobodyAsks() {}":    `registrator/a.go:2: "TestNobodyAsks"`,
		"package a\nvar s = \"nobody\" // plain": "",
	} {
		tree := fstest.MapFS{"registrator/a.go": {Data: []byte(text)}, "sidecar/a.go": {Data: []byte(text)}}
		if got := strings.Join(checkComments(t, tree), "\n"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// checkComments gives a line for each phrase in a comment or a test's name.
func checkComments(t *testing.T, tree fs.FS) (found []string) {
	t.Helper()
	walk(t, tree, func(name string) {
		if path.Ext(name) != ".go" || !slices.ContainsFunc(plainInComments, func(dir string) bool { return strings.HasPrefix(name, dir+"/") }) {
			return
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Comments {
			for _, comment := range group.List {
				for i, line := range strings.Split(comment.Text, "\n") {
					for _, phrase := range unclear.FindAllString(line, -1) {
						found = append(found, fmt.Sprintf("%s:%d: %q", name, set.Position(comment.Pos()).Line+i, phrase))
					}
				}
			}
		}
		for _, d := range file.Decls {
			f, is := d.(*ast.FuncDecl)
			if is && strings.HasPrefix(f.Name.Name, "Test") && unclearName.MatchString(f.Name.Name) {
				found = append(found, fmt.Sprintf("%s:%d: %q", name, set.Position(f.Pos()).Line, f.Name.Name))
			}
		}
	})
	return found
}

// readPhrases makes one expression of the list.
func readPhrases(t *testing.T) *regexp.Regexp {
	t.Helper()
	list, err := os.ReadFile("testdata/phrases.txt")
	if err != nil {
		t.Fatal(err)
	}
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
		parts = append(parts, strings.ReplaceAll(regexp.QuoteMeta(phrase), " … ", `(?: [\w-]+){1,3} `))
	}
	return regexp.MustCompile(`(?i)\b(?:` + strings.Join(parts, "|") + `)\b`)
}

// checkWords gives a line for each phrase in a page, a file of the sample or a
// string of a program, and counts the lines and strings that it has read.
func checkWords(t *testing.T, tree fs.FS, phrases *regexp.Regexp) (found []string, texts int) {
	t.Helper()
	look := func(name string, line int, text string) {
		for i, part := range strings.Split(text, "\n") {
			texts++
			for _, phrase := range phrases.FindAllString(part, -1) {
				found = append(found, fmt.Sprintf("%s:%d: %q", name, line+i, phrase))
			}
		}
	}
	walk(t, tree, func(name string) {
		page := path.Ext(name) == ".md" && (path.Dir(name) == "." || strings.HasPrefix(name, "docs/"))
		sample := name == "compose.yaml" || strings.HasPrefix(name, "compose/")
		if !page && !sample {
			return
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		look(name, 1, string(text))
	})
	files, set, err := read(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				_, imported := n.(*ast.ImportSpec)
				return !imported
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			at := set.Position(literal.Pos())
			if literal.Value[0] == '"' {
				text = strings.ReplaceAll(text, "\n", " ")
			}
			look(at.Filename, at.Line, text)
			return true
		})
	}
	return found, texts
}

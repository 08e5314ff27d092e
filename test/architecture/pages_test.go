package architecture

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// A page that names a test promises something. The test must be there, as a
// function or as a file of the plan's specification.
func TestEveryTestThatAPageNamesIsThere(t *testing.T) {
	tree := os.DirFS(root)
	tests := testsOf(t, tree)
	named := regexp.MustCompile("`(Test[A-Z]\\w+…?|[\\w.-]+\\.txt)`")
	pages, count := pagesOf(t, tree), 0
	for _, page := range pages {
		text, err := fs.ReadFile(tree, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			count++
			name, begins := strings.CutSuffix(m[1], "…")
			if !tests[name] && (!begins || !anyBegins(tests, name)) {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
	// The floor keeps a search that finds nothing from passing.
	if count < 30 {
		t.Errorf("%d pages name %d tests, want many more", len(pages), count)
	}
}

// What the two halves agree on in Consul is for others to use, too.
func TestMetaKeys_EachOfTheContract_IsOnItsPage(t *testing.T) {
	tree := os.DirFS(root)
	page, err := fs.ReadFile(tree, "docs/meta.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := fs.Glob(tree, "registrator/contract/*.go")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^\s*Key\w+\s*=\s*"([^"]+)"`)
	count := 0
	for _, source := range sources {
		text, err := fs.ReadFile(tree, source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range key.FindAllStringSubmatch(string(text), -1) {
			count++
			if !strings.Contains(string(page), "| `"+m[1]+"`") {
				t.Errorf("docs/meta.md has no row for the key %s of %s", m[1], source)
			}
		}
	}
	if count < 9 {
		t.Errorf("%d keys are found, want 9 or more", count)
	}
}

func anyBegins(tests map[string]bool, prefix string) bool {
	for name := range tests {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// testsOf is the names of all tests, and of the specification's files.
func testsOf(t *testing.T, tree fs.FS) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	walk(t, tree, func(name string) {
		switch {
		case strings.HasSuffix(name, "_test.go"):
			source, err := fs.ReadFile(tree, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range function.FindAllStringSubmatch(string(source), -1) {
				tests[m[1]] = true
			}
		case path.Ext(name) == ".txt" && strings.Contains(name, "/testdata/"):
			tests[path.Base(name)] = true
		}
	})
	return tests
}

func pagesOf(t *testing.T, tree fs.FS) (pages []string) {
	t.Helper()
	walk(t, tree, func(name string) {
		if path.Ext(name) == ".md" {
			pages = append(pages, name)
		}
	})
	return pages
}

// walk visits every file but those of hidden directories.
func walk(t *testing.T, tree fs.FS, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.IsDir():
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

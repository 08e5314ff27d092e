package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
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

// A comment that names a fact of HAProxy's names one that is on the page.
func TestHAProxyFacts_EachThatTheCodeNames_IsOnThePage(t *testing.T) {
	tree := os.DirFS(root)
	page, err := fs.ReadFile(tree, "docs/haproxy-facts.md")
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(page), -1) {
		if numbers[m[1]] {
			t.Errorf("docs/haproxy-facts.md has two facts %s", m[1])
		}
		numbers[m[1]] = true
	}
	named := regexp.MustCompile(`haproxy-facts\.md, facts? (\d+)(?: and (\d+))?`)
	count := 0
	walk(t, tree, func(name string) {
		if path.Ext(name) != ".go" {
			return
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(source), -1) {
			count++
			for _, number := range m[1:] {
				if number != "" && !numbers[number] {
					t.Errorf("%s names fact %s, which is not on docs/haproxy-facts.md", name, number)
				}
			}
		}
	})
	if count < 10 {
		t.Errorf("%d facts are named, want 10 or more", count)
	}
}

// A reader who follows a link finds the page and the heading.
func TestPages_LinksBetweenThem_LeadSomewhere(t *testing.T) {
	tree := os.DirFS(root)
	link := regexp.MustCompile(`\]\(([^)#\s:]*)(?:#([^)\s]*))?\)`)
	count := 0
	for _, page := range pagesOf(t, tree) {
		text, err := fs.ReadFile(tree, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			count++
			to := page
			if m[1] != "" {
				to = path.Join(path.Dir(page), m[1])
			}
			if _, err := fs.Stat(tree, to); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if m[2] != "" && !anchorsOf(t, tree, to)[m[2]] {
				t.Errorf("%s links to %s#%s, and there is no such heading", page, m[1], m[2])
			}
		}
	}
	// The floor keeps a search that finds nothing from passing.
	if count < 100 {
		t.Errorf("%d links are found, want many more", count)
	}
}

// A reader who looks for a page finds it in the list of all pages.
func TestPages_Index_ListsEachPage(t *testing.T) {
	tree := os.DirFS(root)
	index, err := fs.ReadFile(tree, "docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile(`(?m)^\| \[[^]]+\]\(([^)#]+)`)
	pages := map[string]bool{}
	for _, m := range listed.FindAllStringSubmatch(string(index), -1) {
		page := path.Join("docs", m[1])
		if pages[page] {
			t.Errorf("docs/README.md lists %s twice", m[1])
		}
		pages[page] = true
	}
	count := 0
	for _, page := range pagesOf(t, tree) {
		if !strings.HasPrefix(page, "docs/") || page == "docs/README.md" {
			continue
		}
		if count++; !pages[page] {
			t.Errorf("docs/README.md does not list %s", page)
		}
	}
	// The floor keeps a search that finds nothing from passing.
	if count < 40 {
		t.Errorf("%d pages are found, want many more", count)
	}
}

// The map names files that are there, and every package of the sidecar.
func TestArchitecturePage_FilesAndPackages_AreThere(t *testing.T) {
	tree := os.DirFS(root)
	page, err := fs.ReadFile(tree, "docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z][\\w/]*\\.(?:go|tmpl))`").FindAllStringSubmatch(string(page), -1)
	for _, m := range named {
		if _, err := fs.Stat(tree, m[1]); err != nil {
			if _, err = fs.Stat(tree, "sidecar/internal/"+m[1]); err != nil {
				t.Errorf("docs/architecture.md names %s, which is not there", m[1])
			}
		}
	}
	packages, err := fs.ReadDir(tree, "sidecar/internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if !regexp.MustCompile(`(?m)^  (?:\w+/ )?` + p.Name() + `/ `).Match(page) {
			t.Errorf("docs/architecture.md has no line for sidecar/internal/%s", p.Name())
		}
	}
	// The floors keep a search that finds nothing from passing.
	if len(named) < 40 || len(packages) < 20 {
		t.Errorf("%d files are named, %d packages read, want many more", len(named), len(packages))
	}
}

// The map names types, functions and methods as the code does: those behind a file's
// name are in that file.
func TestArchitecturePage_Functions_AreThere(t *testing.T) {
	tree := os.DirFS(root)
	page, err := fs.ReadFile(tree, "docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	inFile, anywhere := declarations(t, tree)
	count := 0
	for line := range strings.Lines(string(page)) {
		file, isStep := "", regexp.MustCompile(`^\| \d+ \|`).MatchString(line)
		if isStep {
			line = strings.Split(line, " | ")[1]
		}
		for _, m := range regexp.MustCompile("`([\\w./]+)`").FindAllStringSubmatch(line, -1) {
			name := m[1]
			switch {
			case strings.HasSuffix(name, ".go"):
				if file = "sidecar/internal/" + name; inFile[file] == nil {
					file = name
				}
			case path.Ext(name) == ".cfg" || path.Ext(name) == ".json" || path.Ext(name) == ".tmpl" || !isFunction.MatchString(name):
			case isStep:
				if count++; !inFile[file][name] {
					t.Errorf("docs/architecture.md names %s in %s, which is not there", name, file)
				}
			case strings.Contains(name, "."):
				if count++; !anywhere[name] {
					t.Errorf("docs/architecture.md names %s, which is not there", name)
				}
			}
		}
	}
	if count < 40 {
		t.Errorf("%d functions are named, want many more", count)
	}
}

// isFunction matches what is written as a function, a method or a type.
var isFunction = regexp.MustCompile(`^\w+(\.\w+)?$`)

// declarations are the functions and types of each file, a method as Type.name; and
// those of all, with the package's name before them too.
func declarations(t *testing.T, tree fs.FS) (inFile map[string]map[string]bool, anywhere map[string]bool) {
	t.Helper()
	inFile, anywhere = map[string]map[string]bool{}, map[string]bool{}
	walk(t, tree, func(name string) {
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		inFile[name] = map[string]bool{}
		add := func(declared string, isMethod bool) {
			inFile[name][declared] = true
			if !isMethod {
				declared = file.Name.Name + "." + declared
			}
			anywhere[declared] = true
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(d.Name.Name, false)
				} else if named := receiver(d.Recv.List[0].Type); named != "" {
					add(named+"."+d.Name.Name, true)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, is := spec.(*ast.TypeSpec); is {
						add(s.Name.Name, false)
						if fields, is := s.Type.(*ast.StructType); is {
							for _, f := range fields.Fields.List {
								for _, n := range f.Names {
									anywhere[s.Name.Name+"."+n.Name] = true
								}
							}
						}
					}
				}
			}
		}
	})
	return inFile, anywhere
}

// receiver is the name of a receiver's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// anchorsOf is what a page's headings are called in a link, as GitHub makes it.
func anchorsOf(t *testing.T, tree fs.FS, page string) map[string]bool {
	t.Helper()
	text, err := fs.ReadFile(tree, page)
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		anchors[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return anchors
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

// A script on a page gives files to users and groups that the package makes, or has.
func TestPages_OwnersInScripts_AreThoseOfThePackage(t *testing.T) {
	tree := os.DirFS(root)
	install, err := fs.ReadFile(tree, "deploy/nfpm/pointsman.postinstall.sh")
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile(`useradd --system --gid (\w+) [^&|;]* (\w+)\n`).FindSubmatch(install)
	if made == nil {
		t.Fatal("the package makes no user")
	}
	command, count := regexp.MustCompile(`(?m)^(chown|chgrp) (?:-R )?([\w:]+) `), 0
	for _, page := range pagesOf(t, tree) {
		text, err := fs.ReadFile(tree, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			count++
			user, group, _ := strings.Cut(m[2], ":")
			if m[1] == "chgrp" {
				user, group = "", m[2]
			}
			if user != "" && user != "root" && user != string(made[2]) || group != "" && group != "root" && group != string(made[1]) {
				t.Errorf("%s: %s: the package makes the user %s of the group %s", page, m[0], made[2], made[1])
			}
		}
	}
	if count == 0 {
		t.Error("no script found")
	}
}

// An operator who searches the log for what a page says finds it.
func TestPages_LogMessages_AreLogged(t *testing.T) {
	tree := os.DirFS(root)
	var sources strings.Builder
	walk(t, tree, func(name string) {
		if path.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") {
			source, err := fs.ReadFile(tree, name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(source)
		}
	})
	named, code := regexp.MustCompile("\\b[Ll]og (?:says |line )?`([^`]+)`"), sources.String()
	count := 0
	for _, page := range pagesOf(t, tree) {
		text, err := fs.ReadFile(tree, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			count++
			step, isStep := strings.CutPrefix(m[1], "server ") // server up, server maint: by the step's kind
			if !strings.Contains(code, `"`+m[1]) && (!isStep || !strings.Contains(code, `"`+step+`"`)) {
				t.Errorf("%s has a log message %q, which nothing logs", page, m[1])
			}
		}
	}
	// The floor keeps a search that finds nothing from passing.
	if count < 15 {
		t.Errorf("%d messages are found, want many more", count)
	}
}

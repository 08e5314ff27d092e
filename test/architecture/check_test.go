package architecture

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A file is one Go file of the module, parsed.
type file struct {
	dir  string // its directory, from the module's root
	test bool
	ast  *ast.File
}

// read parses every Go file of the module at root, whatever its build tags
// are. It leaves out what the go command leaves out: other modules, testdata,
// and names that begin with a dot or an underscore.
func read(root fs.FS) ([]file, *token.FileSet, error) {
	var files []file
	set := token.NewFileSet()
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case strings.HasPrefix(entry.Name(), "."), strings.HasPrefix(entry.Name(), "_"):
			return skip(entry)
		case entry.IsDir():
			if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil || entry.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file{dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: parsed})
		return nil
	})
	return files, set, err
}

// skip leaves out an entry, with all below it if it is a directory.
func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// check reads the module at root and gives one line for each breach.
func check(root fs.FS) (breaches []string, files int, err error) {
	read, set, err := read(root)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range read {
		for _, b := range slices.Concat(checkImports(f), checkPure(f), checkProcess(f)) {
			breaches = append(breaches, fmt.Sprintf("%s: %s", set.Position(b.at), b.what))
		}
	}
	return breaches, len(read), nil
}

// A breach is a rule broken at one place of the source.
type breach struct {
	at   token.Pos
	what string
}

// checkImports holds the file's imports of this module to its package's rule.
func checkImports(f file) []breach {
	own, ok := ruleOf(f.dir)
	if !ok {
		return []breach{{f.ast.Package, fmt.Sprintf("package %s has no rule: give it a row in test/architecture/rules_test.go", f.dir)}}
	}
	var found []breach
	for _, spec := range f.ast.Imports {
		imported, ours := strings.CutPrefix(importPath(spec), module+"/")
		if !ours || matches(own.place, imported) || matchesAny(own.imports, imported) {
			continue
		}
		if f.test && matchesAny(own.tests, imported) {
			continue
		}
		what := fmt.Sprintf("%s may not import %s", f.dir, imported)
		if matchesAny(own.tests, imported) {
			what += ": only its tests may"
		}
		found = append(found, breach{spec.Pos(), what})
	}
	return found
}

// checkPure holds a pure package to values: no I/O, no clock, no log.
func checkPure(f file) []breach {
	if f.test || !matchesAny(pure, f.dir) {
		return nil
	}
	var found []breach
	for _, spec := range f.ast.Imports {
		if slices.Contains(outside, importPath(spec)) {
			found = append(found, breach{spec.Pos(), fmt.Sprintf("%s is pure and may not import %s", f.dir, importPath(spec))})
		}
	}
	for _, use := range uses(f.ast, "time", clock) {
		found = append(found, breach{use.Pos(), fmt.Sprintf("%s is pure and may not call time.%s: time comes in as a value", f.dir, use.Sel.Name)})
	}
	return found
}

// checkProcess holds all but the edges to what they are given.
func checkProcess(f file) []breach {
	if f.test || matchesAny(edges, f.dir) {
		return nil
	}
	var found []breach
	for _, use := range uses(f.ast, "os", process) {
		found = append(found, breach{use.Pos(), fmt.Sprintf("%s may not read os.%s: only the edges do", f.dir, use.Sel.Name)})
	}
	for _, use := range uses(f.ast, "os", []string{"Exit"}) {
		found = append(found, breach{use.Pos(), f.dir + " may not call os.Exit: only the edges do"})
	}
	return found
}

// uses finds package.name for each of the names, under whatever name the file
// imports the package.
func uses(f *ast.File, pkg string, names []string) []*ast.SelectorExpr {
	local := ""
	for _, spec := range f.Imports {
		if importPath(spec) == pkg {
			local = path.Base(pkg)
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	var found []*ast.SelectorExpr
	ast.Inspect(f, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && x.Name == local && slices.Contains(names, selector.Sel.Name) {
			found = append(found, selector)
		}
		return true
	})
	return found
}

// ruleOf returns the rule of the longest place that fits the directory.
func ruleOf(dir string) (best rule, ok bool) {
	for _, r := range rules {
		if matches(r.place, dir) && len(r.place) > len(best.place) {
			best, ok = r, true
		}
	}
	return best, ok
}

// matches is true if the directory is the place, or below one with "/...".
func matches(place, dir string) bool {
	base, tree := strings.CutSuffix(place, "/...")
	return dir == base || tree && strings.HasPrefix(dir, base+"/")
}

func matchesAny(places []string, dir string) bool {
	return slices.ContainsFunc(places, func(place string) bool { return matches(place, dir) })
}

// importPath returns the path without its quotes; the parser has checked them.
func importPath(spec *ast.ImportSpec) string {
	unquoted, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return unquoted
}

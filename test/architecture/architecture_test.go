package architecture

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the module's root, from the directory that a test runs in.
const root = "../.."

func TestTreeKeepsToItsRules(t *testing.T) {
	if _, err := os.Stat(root + "/go.mod"); err != nil {
		t.Fatalf("%s is not the module's root: %v", root, err)
	}
	breaches, files, err := check(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	// The floor keeps a walk that finds nothing from passing.
	if files < 10 {
		t.Errorf("read %d Go files, want the whole tree", files)
	}
	for _, b := range breaches {
		t.Error(b)
	}
}

func TestRulesNameNoPlaceThatHasNoRow(t *testing.T) {
	for _, r := range rules {
		for _, place := range slices.Concat(r.imports, r.tests) {
			if !slices.ContainsFunc(rules, func(r rule) bool { return r.place == place }) {
				t.Errorf("%s may import %s, which has no row of its own", r.place, place)
			}
		}
	}
	for _, place := range slices.Concat(pure, edges[:3]) {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.place == place }) {
			t.Errorf("%s is named in a list and has no row", place)
		}
	}
}

func TestCheck(t *testing.T) {
	const ours = `import _ "` + module + `/`
	for _, test := range []struct {
		name, file, source string
		want               string // what the one breach says; "" for none
	}{
		{"the core may import the catalog", "sidecar/internal/plan/a.go", ours + `sidecar/internal/catalog"`, ""},
		{"the catalog may not import the core", "sidecar/internal/catalog/a.go", ours + `sidecar/internal/plan"`, "sidecar/internal/catalog may not import sidecar/internal/plan"},
		{"an adapter may not import another", "sidecar/internal/consul/a.go", ours + `sidecar/internal/haproxy"`, "sidecar/internal/consul may not import sidecar/internal/haproxy"},
		{"the agent may not import an adapter", "sidecar/internal/reconcile/a.go", ours + `sidecar/internal/consul"`, "sidecar/internal/reconcile may not import sidecar/internal/consul"},
		{"the one edge between the halves", "sidecar/internal/consul/a.go", ours + `registrator/contract"`, ""},
		{"no other edge between the halves", "sidecar/internal/reconcile/a.go", ours + `registrator/contract"`, "sidecar/internal/reconcile may not import registrator/contract"},
		{"main wires nothing", "sidecar/cmd/pointsman/main.go", ours + `sidecar/internal/reconcile"`, "sidecar/cmd/pointsman may not import sidecar/internal/reconcile"},
		{"a fake in a test", "sidecar/internal/reconcile/a_test.go", ours + `sidecar/internal/haproxytest"`, ""},
		{"a fake in a program", "sidecar/internal/reconcile/a.go", ours + `sidecar/internal/haproxytest"`, "sidecar/internal/reconcile may not import sidecar/internal/haproxytest: only its tests may"},
		{"black box tests know programs only", "test/e2e/a_test.go", ours + `sidecar/internal/reconcile"`, "test/e2e may not import sidecar/internal/reconcile"},
		{"a package below one that may", "sidecar/internal/haproxy/reply/a.go", ours + `sidecar/internal/plan"`, ""},
		{"a file that another system builds", "sidecar/internal/plan/a_windows.go", ours + `sidecar/internal/reconcile"`, "sidecar/internal/plan may not import sidecar/internal/reconcile"},
		{"a package without a rule", "sidecar/internal/new/a.go", "", "package sidecar/internal/new has no rule"},
		{"a package that only begins like one with a rule", "sidecar/internal/planner/a.go", "", "package sidecar/internal/planner has no rule"},
		{"a pure package that opens files", "sidecar/internal/plan/a.go", `import _ "os"`, "is pure and may not import os"},
		{"a pure package that reads the clock", "sidecar/internal/plan/a.go", "import \"time\"\nvar t = time.Now()", "may not call time.Now"},
		{"a pure package that reads the clock by another name", "sidecar/internal/plan/a.go", "import c \"time\"\nvar t = c.Since", "may not call time.Since"},
		{"a pure package that takes a time", "sidecar/internal/plan/a.go", "import \"time\"\nvar t time.Time", ""},
		{"an adapter that reads the environment", "sidecar/internal/consul/a.go", "import \"os\"\nvar t = os.Getenv(`X`)", "may not read os.Getenv"},
		{"an adapter that opens files", "sidecar/internal/render/a.go", "import \"os\"\nvar t = os.Open", ""},
		{"a library that ends the program", "registrator/a.go", "import \"os\"\nfunc f() { os.Exit(1) }", "may not call os.Exit"},
		{"the cli reads the environment", "sidecar/internal/cli/a.go", "import \"os\"\nvar t = os.Environ()", ""},
		{"testdata", "sidecar/internal/plan/testdata/a.go", "not Go", ""},
		{"a directory of the tools", ".tools/a/a.go", "not Go", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := "package a\n" + test.source + "\n"
			got, _, err := check(fstest.MapFS{test.file: {Data: []byte(source)}})
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				if len(got) != 0 {
					t.Errorf("got %q, want no breach", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], test.want) || !strings.HasPrefix(got[0], test.file+":") {
				t.Errorf("got %q, want one at %s that says %q", got, test.file, test.want)
			}
		})
	}
}

func TestCheckLeavesOutOtherModules(t *testing.T) {
	breaches, files, err := check(fstest.MapFS{
		"tools/x/go.mod": {Data: []byte("module x\n")},
		"tools/x/x.go":   {Data: []byte("package x\n")},
		"templates/t.go": {Data: []byte("package templates\n")},
	})
	if err != nil || len(breaches) != 0 || files != 1 {
		t.Errorf("got breaches %q, %d files, error %v; want none, 1, nil", breaches, files, err)
	}
}

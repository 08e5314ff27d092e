// Package architecture holds the tree to its design: it reads every Go file of
// the module and fails on an import that the table in rules_test.go does not
// list, and on a pure package that reaches for the outside.
//
// It parses the files itself and asks no other program. A version that ran
// `go list` was replayed from the test cache as a pass, because the cache sees
// only what the test process opens. The files are opened here, by this process
// and inside the module, so a change to any of them, a new file or a new
// directory makes the cached result stale.
package architecture

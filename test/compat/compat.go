// Package compat keeps what tests find out about the versions of HAProxy and
// Consul that they run on. `make matrix` runs them on each, and makes the tables
// of docs/compatibility.md of what they noted.
//
// Its invariant: a fact is what a test has seen in this run, and does not vary
// from run to run. It imports nothing of ours; only tests and cmd/compatibility
// import it.
package compat

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// The variables that `make matrix` sets. The sidecar refuses what it does not know
// of those that begin with POINTSMAN_, so these do not.
const (
	fileVariable    = "MATRIX_FACTS"   // the file that facts are added to
	haproxyVariable = "MATRIX_HAPROXY" // the version that the tests run on, as 2.6
	consulVariable  = "MATRIX_CONSUL"
)

// Fact is one line of the file.
type Fact struct {
	Program string `json:"program"` // HAProxy or Consul
	Version string `json:"version"`
	Fact    string `json:"fact"`
	Value   string `json:"value"`
}

// HAProxy notes a fact of the HAProxy that the test runs on.
func HAProxy(tb testing.TB, fact, value string) {
	tb.Helper()
	note(tb, "HAProxy", haproxyVariable, fact, value)
}

// Consul notes a fact of the Consul that the test runs on.
func Consul(tb testing.TB, fact, value string) {
	tb.Helper()
	note(tb, "Consul", consulVariable, fact, value)
}

func note(tb testing.TB, program, variable, fact, value string) {
	tb.Helper()
	tb.Logf("%s: %s: %s", program, fact, value)
	path := os.Getenv(fileVariable)
	if path == "" {
		return
	}
	line, err := json.Marshal(Fact{program, os.Getenv(variable), fact, value})
	if err != nil {
		tb.Fatal(err)
	}
	// One short write at the end of the file: several test binaries share it.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "%s\n", line)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		tb.Fatal(err)
	}
}

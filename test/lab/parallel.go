package lab

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// Tests runs the tests of a package that needs the programs, as Parallel says, for a
// TestMain, and returns the exit code.
func Tests(m *testing.M, parallel int, programs *Programs) int {
	Parallel(parallel)
	var err error
	if *programs, err = FindPrograms(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer programs.Remove()
	return m.Run()
}

// Parallel lets the tests of a package run side by side, at least that many at once, for
// a TestMain: those that wait for processes need no processor each. What -parallel says on
// the command line comes first.
func Parallel(tests int) {
	if err := flag.Set("test.parallel", strconv.Itoa(max(tests, runtime.GOMAXPROCS(0)))); err != nil {
		panic(fmt.Sprintf("lab: %v: call it in a TestMain", err)) // there is no such flag: no test runs
	}
}

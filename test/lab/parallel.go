package lab

import (
	"flag"
	"fmt"
	"runtime"
	"strconv"
)

// Parallel lets the tests of a package run side by side, at least that many at once, for
// a TestMain: those that wait for processes need no processor each. What -parallel says on
// the command line comes first.
func Parallel(tests int) {
	if err := flag.Set("test.parallel", strconv.Itoa(max(tests, runtime.GOMAXPROCS(0)))); err != nil {
		panic(fmt.Sprintf("lab: %v: call it in a TestMain", err)) // there is no such flag: no test runs
	}
}

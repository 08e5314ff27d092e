//go:build linux && race

package main_test

// raceFlags build the wrapper as the tests are built.
var raceFlags = []string{"-race"}

package proctest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// Built is a program of ours as the tests of a package run it.
type Built struct {
	Source string   // of its package, as go build takes it
	Flags  []string // further ones of go build
	Path   string   // set by Main
}

// Main is a TestMain's: it builds programs, runs the tests and gives the exit
// code.
func Main(m *testing.M, programs ...*Built) int {
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	for i, p := range programs {
		// In a directory of its own it has the name that it is known by.
		if err := p.build(filepath.Join(dir, strconv.Itoa(i))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

func (b *Built) build(dir string) error {
	source, err := filepath.Abs(b.Source)
	if err != nil {
		return err
	}
	b.Path = filepath.Join(dir, filepath.Base(source))
	build := exec.CommandContext(context.Background(), "go", append(append([]string{"build", "-o", b.Path}, b.Flags...), source)...)
	if len(b.Flags) == 0 { // as `make build` does: after it, this only links
		build.Args = slices.Insert(build.Args, 2, "-trimpath")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", build.Args, err, out)
	}
	return nil
}

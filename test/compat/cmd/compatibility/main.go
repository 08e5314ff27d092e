// Command compatibility makes the tables of docs/compatibility.md of the facts
// that tests have noted, or tells whether they are current.
//
// usage: compatibility [-check] FACTS PAGE
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/pointsman/pointsman/test/compat"
)

func main() {
	check := flag.Bool("check", false, "change nothing; fail if the page is not current")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: compatibility [-check] FACTS PAGE")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *check); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

func run(facts, page string, check bool) error {
	f, err := os.Open(facts)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	before, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	after, err := compat.Page(string(before), f)
	if err != nil {
		return fmt.Errorf("%s: %w", facts, err)
	}
	switch {
	case after == string(before):
		return nil
	case check:
		return errors.New(page + " is not what the tests have seen: run make matrix, and commit the page")
	}
	return os.WriteFile(page, []byte(after), 0o644)
}

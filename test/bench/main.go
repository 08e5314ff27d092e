// Command bench measures what a change costs: how long from a change in Consul
// until HAProxy shows it, beside the least that it can take on this machine.
//
// Real programs run on loopback: Consul, HAProxy, and the sidecar of this tree.
// Each row of the table has a floor that is measured in turn with the sidecar:
// one bare blocking query whose body is read and not decoded, and one bare
// runtime command. The ratios count; absolute figures are the machine's.
//
// It writes results.json and the tables and pictures of docs/performance.md.
// Exit codes: 0 all rows were measured, whether or not they meet their goals;
// 1 a row failed, or lost a change or a request; 2 wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == reloadCommand {
		if err := reload(context.Background(), os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	cfg, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, cfg.limit)
	err = run(ctx, cfg)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what a user may set.
type config struct {
	rows          []row
	runs          int
	limit         time.Duration
	profile       string
	draw          bool   // only write the page again
	results, page string // files
	// Programs of peers; empty: not measured.
	consulTemplate, fabio string
	log                   io.Writer
}

const usage = `usage: bench [--rows NAME,NAME…] [--runs N] [--limit 60m] [--profile missed|always|never]

Measures how long a change in Consul takes until HAProxy shows it, beside the
floor of the same run, and writes test/bench/results.json and docs/performance.md.
Rows that are not chosen keep their last results. HAPROXY and CONSUL name the
programs to run.

`

func parse(args []string, out io.Writer) (config, error) {
	root, err := lab.Root()
	if err != nil {
		return config{}, err
	}
	c := config{log: out}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	chosen := f.String("rows", "", "the rows to measure, separated by commas; empty: all")
	f.IntVar(&c.runs, "runs", 5, "how often each row is measured; its figures are the medians")
	f.DurationVar(&c.limit, "limit", time.Hour, "the longest time for all rows")
	f.StringVar(&c.profile, "profile", "missed", "take a CPU profile of the sidecar: of rows that miss a goal, always or never")
	f.BoolVar(&c.draw, "draw", false, "measure nothing; write docs/performance.md from results.json")
	f.StringVar(&c.results, "results", filepath.Join(root, "test", "bench", "results.json"), "file with the results")
	f.StringVar(&c.page, "page", filepath.Join(root, "docs", "performance.md"), "page with the tables")
	f.StringVar(&c.consulTemplate, "consul-template", os.Getenv("CONSUL_TEMPLATE"), "program of consul-template, to measure it too; by default what CONSUL_TEMPLATE names")
	f.StringVar(&c.fabio, "fabio", os.Getenv("FABIO"), "program of fabio, to measure it too; by default what FABIO names")
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
		fmt.Fprintln(out, "\nrows:")
		for _, r := range rows {
			fmt.Fprintf(out, "  %-16s %s\n", r.name, r.title)
		}
	}
	if err := f.Parse(args); err != nil {
		return config{}, err
	}
	switch {
	case f.NArg() > 0:
		return config{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.runs < 1:
		return config{}, fmt.Errorf("--runs %d: must be 1 or more", c.runs)
	case !slices.Contains([]string{"missed", "always", "never"}, c.profile):
		return config{}, fmt.Errorf("--profile %q: must be missed, always or never", c.profile)
	}
	c.rows, err = choose(*chosen)
	return c, err
}

// choose returns the rows of a list of names, in the table's order.
func choose(names string) (chosen []row, err error) {
	if names == "" {
		return rows, nil
	}
	wanted := strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range wanted {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.name == name }) {
			return nil, fmt.Errorf("--rows: no row %q; --help lists them", name)
		}
	}
	for _, r := range rows {
		if slices.Contains(wanted, r.name) {
			chosen = append(chosen, r)
		}
	}
	return chosen, nil
}

// run measures the chosen rows and writes what it has after each of them.
func run(ctx context.Context, cfg config) error {
	results, err := readResults(cfg.results)
	if err != nil {
		return err
	}
	if cfg.draw {
		return results.write(cfg.results, cfg.page)
	}
	fmt.Fprintln(cfg.log, "Building the programs…")
	programs, err := programs(ctx)
	defer programs.Remove()
	if err != nil {
		return err
	}
	var failed []error
	for i, r := range cfg.rows {
		fmt.Fprintf(cfg.log, "[%d/%d] %s: %s\n", i+1, len(cfg.rows), r.name, r.title)
		result, err := measureRow(ctx, cfg, programs, r)
		if ctx.Err() != nil {
			return errors.Join(append(failed, context.Cause(ctx))...)
		}
		if err != nil {
			fmt.Fprintln(cfg.log, "  FAILED:", err)
			failed = append(failed, fmt.Errorf("row %s failed", r.name))
			continue
		}
		result.print(cfg.log)
		results.put(result)
		if err := results.write(cfg.results, cfg.page); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

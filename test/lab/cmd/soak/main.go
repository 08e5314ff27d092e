// Command soak lets real programs run under load while one fault after the
// other happens to each of them: Consul, two load balancers, nodes of two
// services. No idempotent request may fail, and once the faults stop, HAProxy
// and its file must say what Consul says.
//
// On stderr is a line for each fault, on stdout at last one line of JSON. Exit
// codes: 0 all is well, 1 something was lost or is wrong, 2 it could not run.
// docs/reliability.md lists the faults and what is promised in each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

func main() { os.Exit(lab.Main("soak", soak)) }

// config is what a user may set.
type config struct {
	length time.Duration // for which faults begin
	seed   uint64
	rate   int // requests a second of each client
	log    io.Writer
}

func parse(args []string) (config, error) {
	c := config{log: os.Stderr}
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.DurationVar(&c.length, "for", 10*time.Minute, "how long there are faults")
	f.Uint64Var(&c.seed, "seed", 0, "which faults, and in which order: the same seed has the same; 0 takes a new one")
	f.IntVar(&c.rate, "rate", 60, "requests a second of each of the three clients")
	if err := f.Parse(args); err != nil {
		return config{}, err
	}
	if f.NArg() > 0 || c.length <= 0 || c.rate < 1 {
		return config{}, fmt.Errorf("--for %s, --rate %d, arguments %q: must be above 0, 1 or more, none", c.length, c.rate, f.Args())
	}
	if c.seed == 0 {
		c.seed = 1 + uint64(rand.Uint32())
	}
	return c, nil
}

// soak runs all of it and returns 1 if anything is bad.
func soak(ctx context.Context) (code int, err error) {
	cfg, err := parse(os.Args[1:])
	switch {
	case err != nil:
		return 0, err
	case os.Getenv(inside) == "":
		return runInside(cfg)
	}
	fmt.Fprintln(cfg.log, "Building the sidecar, the API node and the client…")
	programs, err := lab.FindPrograms(ctx)
	if err != nil {
		return 0, err
	}
	defer programs.Remove()
	dir, err := os.MkdirTemp("", "pm-soak-")
	if err != nil {
		return 0, err
	}
	defer func() {
		if code == 0 && err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir))
			return
		}
		fmt.Fprintln(cfg.log, "The logs are kept in", dir)
	}()
	l, err := lab.New(lab.Config{Programs: programs, Dir: dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s := newSite(cfg, l)
	defer s.tearDown()
	if err := s.setUp(ctx); err != nil {
		if ctx.Err() == nil {
			fmt.Fprintln(cfg.log, l.Tails(8))
		}
		return 0, err
	}
	s.faults(ctx)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	r, err := s.verdict(ctx)
	if err != nil {
		return 0, err
	}
	if r.bad() {
		code = 1
	}
	return code, r.write(os.Stdout, cfg.log)
}

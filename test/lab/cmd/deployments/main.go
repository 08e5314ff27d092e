// Command deployments deploys again and again, under load, and loses no
// request: three nodes each time, behind two load balancers, stopped as soon
// as their replacements take traffic.
//
// On stdout is one line of JSON for each deployment, and a last one with the
// sums. Exit codes: 0 nothing was lost, 1 something was, 2 it could not run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

func main() { os.Exit(lab.Main("deployments", deployments)) }

// config is what a user may set.
type config struct {
	n      int    // deployments
	rate   int    // requests a second of each of the two clients
	slow   int    // requests of up to some seconds that are under way at a time
	figure string // file for the picture of the leave times; "" is none
	log    io.Writer
}

func parse(args []string) (config, error) {
	c := config{log: os.Stderr}
	f := flag.NewFlagSet("deployments", flag.ContinueOnError)
	f.IntVar(&c.n, "n", 20, "how often to deploy")
	f.IntVar(&c.rate, "rate", 100, "requests a second of each of the two clients")
	f.IntVar(&c.slow, "slow", 4, "slow requests, of up to 4 s, under way at a time")
	f.StringVar(&c.figure, "figure", "", "write a picture of the leave times (SVG) to this file")
	if err := f.Parse(args); err != nil {
		return config{}, err
	}
	if c.n < 1 || c.rate < 1 || c.slow < 0 {
		return config{}, fmt.Errorf("--n %d, --rate %d, --slow %d: must be 1, 1 and 0 or more", c.n, c.rate, c.slow)
	}
	return c, nil
}

// deployments runs all of it and returns 1 if anything was lost.
func deployments(ctx context.Context) (code int, err error) {
	cfg, err := parse(os.Args[1:])
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(cfg.log, "Building the sidecar, the API node and the client…")
	programs, err := lab.FindPrograms(ctx)
	if err != nil {
		return 0, err
	}
	defer programs.Remove()
	l, err := lab.New(lab.Config{Programs: programs})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s := &series{cfg: cfg, lab: l, out: json.NewEncoder(os.Stdout), began: time.Now()}
	if err := s.run(ctx); err != nil {
		if ctx.Err() == nil {
			fmt.Fprintln(cfg.log, l.Tails(8))
		}
		return 0, err
	}
	if cfg.figure != "" {
		if err := os.WriteFile(cfg.figure, figure(s.sums.leaves), 0o644); err != nil {
			return 0, err
		}
	}
	faults := s.sums.faults()
	for _, f := range faults {
		fmt.Fprintln(cfg.log, "BAD:", f)
	}
	if len(faults) > 0 {
		fmt.Fprintln(cfg.log, l.Tails(8))
		return 1, nil
	}
	return 0, nil
}

// Command demo shows the main job: real processes on loopback, version 1.1
// taking the place of 1.0 under load, and a second service that appears by
// registering itself, and what that cost the clients.
//
// With ONCE=1 in the environment it ends by itself; else the lab stays up
// until Ctrl-C. The last line on stdout is one JSON object. Exit codes: 0 the
// verdict is good, 1 it is not, 2 the demo itself could not run.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/pointsman/pointsman/test/lab"
)

func main() { os.Exit(lab.Main("demo", run)) }

func run(ctx context.Context) (code int, err error) {
	cfg, err := parse(os.Args[1:], os.Getenv("ONCE"))
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(os.Stderr, "Building the sidecar, the registrator, the API node and the client…")
	programs, err := lab.FindPrograms(ctx, "pointsman", "registrator", "api", "client")
	if err != nil {
		return 0, err
	}
	defer programs.Remove()
	version, err := lab.ConsulVersion(ctx, programs.Consul)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(os.Stderr, "Consul %s is %s. CONSUL=1.22 builds the newest, CONSUL=PATH names another.\n", version, programs.Consul)
	result, err := show(ctx, cfg, programs)
	if ctx.Err() != nil && result == nil {
		fmt.Fprintln(os.Stderr, "\nStopped. Nothing is left running.")
		return 130, nil
	}
	if err != nil {
		return 0, err
	}
	line, err := json.Marshal(result)
	if err != nil {
		return 0, err
	}
	fmt.Println(string(line))
	if len(result.faults()) > 0 {
		return 1, nil
	}
	return 0, nil
}

// config is what a user may set.
type config struct {
	once       bool
	rate       int // requests a second of each client
	requests   int // at least this number in all
	consulPort int
	port       int // where lb0 serves
	statsPort  int
	statusPort int
}

func parse(args []string, once string) (config, error) {
	c := config{once: once != "" && once != "0"}
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.BoolVar(&c.once, "once", c.once, "end when the verdict is there (or ONCE=1)")
	f.IntVar(&c.rate, "rate", 120, "requests a second of each of the five clients")
	f.IntVar(&c.requests, "requests", 22000, "requests in all, at least")
	f.IntVar(&c.consulPort, "consul-port", 0, "port of Consul and its UI; 0 takes a free one")
	f.IntVar(&c.port, "port", 0, "listen port of lb0; 0 takes a free one")
	f.IntVar(&c.statsPort, "stats-port", 0, "port of HAProxy's statistics page; 0 takes a free one")
	f.IntVar(&c.statusPort, "status-port", 0, "port of the sidecar; 0 takes a free one")
	if err := f.Parse(args); err != nil {
		return config{}, err
	}
	if c.rate < 1 || c.requests < 1 {
		return config{}, fmt.Errorf("--rate %d, --requests %d: must be 1 or more", c.rate, c.requests)
	}
	return c, nil
}

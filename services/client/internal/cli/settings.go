package cli

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"time"

	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/internal/envflag"
	"github.com/pointsman/pointsman/services/client/internal/load"
	"github.com/pointsman/pointsman/services/internal/command"
)

// settings is what the flags say.
type settings struct {
	targets []string

	discover     string // the service's name; "" is none
	consul       string
	path         string
	discoverWait time.Duration

	rate           float64
	duration       time.Duration
	postShare      float64
	freshShare     float64
	idempotentOnly bool
	timeout        time.Duration
	maxInFlight    int
	idleTimeout    time.Duration
	host           string

	expectStatus string
	expectBody   string
	expectEcho   bool
	serverHeader string

	name     string
	progress string
	logFirst bool
	json     bool
	report   string
	log      command.Log
}

func (s *settings) flags(f *pflag.FlagSet) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "client"
	}
	f.StringSliceVar(&s.targets, "target", nil, "target `URL`, such as http://lb0/; may be repeated or comma-separated; requests are spread evenly")
	f.StringVar(&s.discover, "discover", "", "Consul `service` whose passing instances are the targets, instead of --target")
	f.StringVar(&s.consul, "consul", "", "with --discover: `address` of Consul; default CONSUL_HTTP_ADDR, else 127.0.0.1:8500")
	f.StringVar(&s.path, "path", "/", "with --discover: `path` of the targets' URLs")
	f.DurationVar(&s.discoverWait, "discover-wait", 30*time.Second, "with --discover: longest wait for the first passing instance")
	f.Float64Var(&s.rate, "rate", 100, "requests per second over all targets")
	f.DurationVar(&s.duration, "duration", 0, "duration of the run; 0 runs until a signal")
	f.Float64Var(&s.postShare, "post-share", 0, "share of POST requests, 0 to 1, with 1 to 4096 random bytes; the others are GET")
	f.Float64Var(&s.freshShare, "fresh-share", 0.2, "share of requests on a new connection, 0 to 1; the others reuse connections")
	f.BoolVar(&s.idempotentOnly, "idempotent-only", false, "send no POST, overrides --post-share")
	f.DurationVar(&s.timeout, "timeout", 5*time.Second, "timeout of a request, from connecting to the last byte")
	f.IntVar(&s.maxInFlight, "max-in-flight", 1000, "maximum requests in flight; one more is a failure")
	f.DurationVar(&s.idleTimeout, "idle-timeout", 2*time.Second, "idle timeout of a reused connection; must be less than the load balancer's 'timeout http-keep-alive'")

	f.StringVar(&s.host, "host", "", "Host `header` of the requests; default the target's")

	f.StringVar(&s.expectStatus, "expect-status", "2xx", "`statuses` of a success, comma-separated: numbers, or classes such as 2xx")
	f.StringVar(&s.expectBody, "expect-body", "", "regular `expression` that the first 64 KiB of each body must match; default no check")
	f.BoolVar(&s.expectEcho, "expect-echo", false, "check that each body is that of Pointsman's sample API: it repeats the request's ID, and length and SHA-256 of a posted body")
	f.StringVar(&s.serverHeader, "server-header", "X-Served-By", "response `header` with the server's name, for the counts of servers and the first response of each")

	f.StringVar(&s.name, "name", host, "`name` of this client in logs and the report")
	f.StringVar(&s.progress, "progress", "auto", "progress `mode`: auto (one line, redrawn on a terminal), plain (a line each second) or none")
	f.BoolVar(&s.logFirst, "log-first", true, "log the first response from each new server")
	f.BoolVar(&s.json, "json", false, "print the report as JSON, as the last line of stdout")
	f.StringVar(&s.report, "report", "", "`file` to write the report to as JSON")
	s.log.Flags(f)
}

// flagOf gives the flag that sets a field of load.Config.
var flagOf = map[string]string{
	"Targets": "target", "Rate": "rate", "Duration": "duration", "PostShare": "post-share", "FreshShare": "fresh-share",
	"Timeout": "timeout", "MaxInFlight": "max-in-flight", "IdleTimeout": "idle-timeout",
}

// config returns the settings of the load, or one error for each that is wrong,
// with its flag, environment variable and value.
func (s *settings) config(flags *pflag.FlagSet) (load.Config, error) {
	var errs []error
	c := load.Config{
		Rate: s.rate, Duration: s.duration, PostShare: s.postShare, FreshShare: s.freshShare,
		Timeout: s.timeout, MaxInFlight: s.maxInFlight, IdleTimeout: s.idleTimeout,
		UserAgent: "pointsman-client (" + s.name + ")", Host: s.host, Echo: s.expectEcho, ServerHeader: s.serverHeader,
	}
	var err error
	c.Status, err = load.ParseStatuses(s.expectStatus)
	errs = append(errs, s.named(flags, "expect-status", err))
	if s.expectBody != "" {
		c.Body, err = regexp.Compile(s.expectBody)
		errs = append(errs, s.named(flags, "expect-body", err))
	}
	errs = append(errs, s.checkDiscover(flags))
	for _, text := range s.targets {
		target, err := url.Parse(text)
		if err != nil {
			// url.Error repeats the text, which may have a password in it.
			if why, ok := errors.AsType[*url.Error](err); ok {
				err = why.Err
			}
			errs = append(errs, s.named(flags, "target", fmt.Errorf("is no URL: %w", err)))
			continue
		}
		if target.Path == "" {
			target.Path = "/"
		}
		c.Targets = append(c.Targets, target)
	}
	for _, bad := range c.Validate() {
		if bad.Field == "Targets" && len(c.Targets) == 0 && (len(s.targets) > 0 || s.discover != "") {
			continue // it has been said, or they are still to be found
		}
		errs = append(errs, s.named(flags, flagOf[bad.Field], bad.Err))
	}
	if err := checkName(s.name); err != nil {
		errs = append(errs, s.named(flags, "name", err))
	}
	if s.idempotentOnly {
		c.PostShare = 0
	}
	return c, errors.Join(errs...)
}

// checkName: the name stands in a header.
func checkName(name string) error {
	for _, r := range name {
		if r < ' ' || r > '~' {
			return fmt.Errorf("%q: has a character that is not printable ASCII", name)
		}
	}
	if name == "" || len(name) > 64 {
		return fmt.Errorf("%q: must have 1 to 64 characters", name)
	}
	return nil
}

// named puts a flag's name and its environment variable before an error.
func (s *settings) named(flags *pflag.FlagSet, flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", envflag.Name(prefix, flags, flag), err)
}

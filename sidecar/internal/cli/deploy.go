package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

func deployCommand(env Env) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "deploy --service NAME --version VERSION (--start CMD --stop CMD | --compose SERVICE)",
		Short: "Deploy a version of a service, without losing a request",
		Long: `Start the nodes of a new version, wait until every load balancer has had them
live for --min-healthy, stop the old ones, and wait until every load balancer has
them drained. If the new version does not become live, its nodes are stopped
again, the old ones are not touched, and why is said: which node, which check,
its last output, how long. If new nodes are lost while old ones stop, no further
old one is stopped.

Nodes are started and stopped by two commands of yours, which sh runs, once for
each node, or by Docker Compose. They get what they need to know in variables
(POINTSMAN_VERSION, POINTSMAN_INSTANCE and so on; docs/deploy.md).

The load balancers are the sidecars that have registered themselves in Consul.
Of this machine's settings only Consul's are used, and there may be none.

Exit codes: 0 deployed, 1 failed and the old nodes are untouched, 2 arguments or
settings are wrong, 4 failed halfway: both versions may run, 128+n interrupted by
signal n: run it again to go on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDeploy(cmd, env, &o) },
	}
	o.flags(cmd)
	return cmd
}

func runDeploy(cmd *cobra.Command, env Env, o *deployOptions) error {
	cfg, err := loadForDeploy(cmd, env)
	if err := errors.Join(err, o.check(cmd)); err != nil {
		return &exitError{code: ExitUsage, err: err}
	}
	ctx, caught := interruptible(cmd.Context())
	defer caught.stop()
	screen := newDeployScreen(env.Stderr)
	parts, err := newDeployParts(ctx, cfg, env, o, screen)
	if err != nil {
		return err
	}
	defer parts.close()
	d, err := deploy.New(parts.options)
	if err != nil {
		return &exitError{code: ExitUsage, err: err}
	}
	result := d.Run(ctx)
	screen.end()
	if o.json {
		e := json.NewEncoder(env.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(result); err != nil {
			return failure(err)
		}
	}
	return ended(result, caught, screen)
}

// ended says how it went, and gives the exit code.
func ended(r deploy.Result, caught *interrupt, screen *deployScreen) error {
	for line := range strings.Lines(r.Error()) {
		screen.say(strings.TrimRight(line, "\n"))
	}
	screen.say(r.Summary())
	switch r.Outcome {
	case deploy.Deployed, deploy.Already:
		return nil
	case deploy.Refused:
		return &exitError{code: ExitUsage}
	case deploy.Halfway:
		return &exitError{code: ExitHalfway}
	case deploy.Interrupted:
		if s := caught.signal(); s != 0 {
			return &exitError{code: 128 + int(s)}
		}
	case deploy.Failed:
	}
	return &exitError{code: ExitFailure}
}

// interrupt is what a signal does to a deployment.
type interrupt struct {
	stop func()
	got  chan syscall.Signal // has room for one
}

// errInterrupted is the cause of a context that a signal has ended.
type errInterrupted struct{ signal syscall.Signal }

func (e errInterrupted) Error() string { return "interrupted: " + e.signal.String() }

// interruptible gives a context that SIGINT or SIGTERM ends. A second one ends
// the process at once.
func interruptible(parent context.Context) (context.Context, *interrupt) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	over := make(chan struct{})
	i := &interrupt{got: make(chan syscall.Signal, 1)}
	i.stop = func() { signal.Stop(signals); close(over); cancel(nil) }
	go func() {
		for first := true; ; first = false {
			select {
			case s := <-signals:
				n := s.(syscall.Signal)
				if !first {
					os.Exit(128 + int(n))
				}
				i.got <- n
				cancel(errInterrupted{n})
			case <-over:
				return
			}
		}
	}()
	return ctx, i
}

// signal is the one that came, or 0.
func (i *interrupt) signal() syscall.Signal {
	select {
	case s := <-i.got:
		return s
	default:
		return 0
	}
}

// loadForDeploy reads the settings, which need no services.
func loadForDeploy(cmd *cobra.Command, env Env) (config.Config, error) {
	from := sources(cmd, env)
	from.NoServices = true
	return config.Load(from)
}

type deployOptions struct {
	service, version string
	start, stop      string
	once             bool
	compose          string
	variable         string

	pattern string
	foreign bool

	count, batch   int
	redeploy       bool
	timeout        time.Duration
	minHealthy     time.Duration
	drainTimeout   time.Duration
	commandTimeout time.Duration

	sidecars      string
	loadBalancers int
	without       []string
	at            []string

	tokenFile, caFile, certFile, keyFile string

	json bool
}

func (o *deployOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.service, "service", "", "the service in Consul (required)")
	f.StringVar(&o.version, "version", "", "the version to deploy, as its nodes register it (required)")
	f.StringVar(&o.start, "start", "", "command that starts a node, for sh")
	f.StringVar(&o.stop, "stop", "", "command that stops a node, for sh")
	f.BoolVar(&o.once, "once", false, "run a command once for all nodes of a wave, and not for each")
	f.StringVar(&o.compose, "compose", "", "start and stop the containers of this service of Docker Compose, in place of commands")
	f.StringVar(&o.variable, "compose-variable", "", "the Compose file's variable for the version (default: API_VERSION for a service api)")

	f.StringVar(&o.pattern, "instance-pattern", "", "regular expression for the whole ID of an instance that may be stopped or counted (default: the service's name, alone or followed by a digit, - or @ and letters, digits, _.:@+-)")
	f.BoolVar(&o.foreign, "include-foreign", false, "stop and count also instances whose ID does not match the pattern, or that registered under an ID that --start was not given")

	f.IntVar(&o.count, "count", 0, "nodes of the version in the end (default: as many as there are old ones)")
	f.IntVar(&o.batch, "batch", 0, "start and stop so many at a time (default: all at once)")
	f.BoolVar(&o.redeploy, "redeploy", false, "where all nodes are of the version already, replace them")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "time for new nodes to become live on every load balancer")
	f.DurationVar(&o.minHealthy, "min-healthy", 10*time.Second, "time that new nodes must stay live on every load balancer before an old node is stopped; 0s: none")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 2*time.Minute, "time for every load balancer to let go of old nodes")
	f.DurationVar(&o.commandTimeout, "command-timeout", 2*time.Minute, "time for a command to end; then it is killed")

	f.StringVar(&o.sidecars, "sidecars", "", "the service as which sidecars register (default: the setting status.service)")
	f.IntVar(&o.loadBalancers, "load-balancers", 0, "fail unless at least so many load balancers are registered (default: 1)")
	f.StringSliceVar(&o.without, "without", nil, "name of a load balancer to go on without, such as one that is known to be dead; may be repeated")
	f.StringSliceVar(&o.at, "load-balancer", nil, "NAME=ADDRESS: ask this load balancer's sidecar at host:port or a URL, and not where it is registered; may be repeated")
	f.StringVar(&o.tokenFile, "sidecar-token-file", "", "file with the bearer token that sidecars want; an address from Consul is sent it only over TLS, with a CA file")
	f.StringVar(&o.caFile, "sidecar-ca-file", "", "authorities that sign sidecars' certificates, in PEM; with it sidecars are asked by TLS only")
	f.StringVar(&o.certFile, "sidecar-cert-file", "", "client certificate that sidecars want, in PEM")
	f.StringVar(&o.keyFile, "sidecar-key-file", "", "its key")
	f.BoolVar(&o.json, "json", false, "print the result as JSON on standard output")
}

// check takes what variables say for flags that were not given, and names all
// that is wrong.
func (o *deployOptions) check(cmd *cobra.Command) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.service == "" {
		bad("--service: must be given")
	}
	if o.version == "" {
		bad("--version: must be given")
	}
	switch {
	case o.compose == "" && (o.start == "" || o.stop == ""):
		bad("--start and --stop, or --compose: must be given")
	case o.compose != "" && (o.start != "" || o.stop != "" || o.once):
		bad("--compose %s: starts and stops nodes itself; --start, --stop and --once are for commands", o.compose)
	case o.compose == "" && o.variable != "":
		bad("--compose-variable %s: is for --compose", o.variable)
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"timeout", o.timeout}, {"drain-timeout", o.drainTimeout}, {"command-timeout", o.commandTimeout}} {
		if d.value <= 0 {
			bad("--%s %s: must be above 0", d.flag, d.value)
		}
	}
	if o.minHealthy < 0 {
		bad("--min-healthy %s: must be 0s or more", o.minHealthy)
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"count", o.count}, {"batch", o.batch}, {"load-balancers", o.loadBalancers}} {
		if n.value < 0 || cmd.Flags().Changed(n.flag) && n.value == 0 {
			bad("--%s %d: must be 1 or more", n.flag, n.value)
		}
	}
	return errors.Join(errs...)
}

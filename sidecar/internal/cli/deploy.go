package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/internal/process"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

func deployCommand(env Env) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "deploy --service NAME --version VERSION (--start CMD --stop CMD | --compose SERVICE)",
		Short: "Deploy a version of a service without failed requests",
		Long: `Start the instances of a new version, wait until they have been live on every load
balancer for --min-healthy, stop the old instances, and wait until they are drained
on every load balancer.

If the new version does not become live, its instances are stopped again and the old
instances are not touched. The error names the instance, the check, its last output
and the time waited. If new instances are lost while old ones stop, no further old one
is stopped.

An instance is a running program that registers itself in Consul. Two shell commands or
Docker Compose start and stop the instances. A command runs once for each instance and
gets its data in environment variables (DEPLOY_VERSION, DEPLOY_INSTANCE and others; see
docs/deploy.md).

The load balancers are the sidecars registered in Consul. Only this machine's
Consul settings are used; the settings file may be missing.

With --canary 5,25,50,100 the new instances start with share 0. The sidecars then raise
their share in steps, each for --interval, and compare them with the old ones. Once
they have all traffic the old instances are stopped. A new version that is worse is
aborted: its instances are stopped again, the old ones have all traffic.

With --blue-green the new instances start without traffic, and can be looked at (setting
preview of a service). Then one change gives them all traffic on all load balancers.
The old instances keep running for --keep: pointsman rollout undo gives them the traffic again,
rollout abort also has the new ones stopped.

A lock in Consul keeps two deployments of a service apart. What happens is recorded
there: deploy status, history and undo use it, and the page shows it.

Exit codes: 0 deployed, 1 failed and the old instances are not touched, 2 invalid
arguments or settings, 3 the rollout of --canary is paused or replaced, or --blue-green
was not switched or was undone, both versions run, 4 partially deployed: both versions
may run, also if another deployment has taken the lock meanwhile, 5 the rollout was
aborted, the old instances are not touched and the new ones stopped again, 8 another
deployment of the service is under way, nothing was done, 128+n interrupted by signal n:
run the command again to continue.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDeploy(cmd, env, &o) },
	}
	o.flags(cmd)
	cmd.AddCommand(deployStatusCommand(env), deployHistoryCommand(env), deployUndoCommand(env))
	return completeService(cmd, env, registeredServices)
}

func runDeploy(cmd *cobra.Command, env Env, o *deployOptions) error {
	cfg, err := loadWithout(cmd, env)
	if err := errors.Join(err, o.check(cmd)); err != nil {
		return &exitError{Code: ExitUsage, Err: err}
	}
	ctx, release := process.Signals(cmd.Context(), os.Exit)
	defer release()
	screen := newDeployScreen(env.Stderr)
	parts, err := newDeployParts(ctx, cfg, env, o, screen)
	if err != nil {
		return err
	}
	defer parts.close()
	if err := mayDeploy(ctx, cfg, o, screen); err != nil {
		return err
	}
	result, err := runRecorded(ctx, cfg, env, o, parts, screen)
	screen.end()
	if err != nil {
		return err
	}
	if o.json {
		if err := printJSON(env.Stdout, result); err != nil {
			return failure(err)
		}
	}
	return ended(result, signalOf(ctx), screen)
}

// ended says how it went, and gives the exit code. got is the signal that came, or 0.
func ended(r deploy.Result, got syscall.Signal, screen *deployScreen) error {
	for line := range strings.Lines(r.Error()) {
		screen.say(strings.TrimRight(line, "\n"))
	}
	screen.say(r.Summary())
	switch r.Outcome {
	case deploy.Deployed, deploy.Already:
		return nil
	case deploy.Refused:
		return &exitError{Code: ExitUsage}
	case deploy.Halfway:
		return &exitError{Code: ExitHalfway}
	case deploy.Aborted:
		return &exitError{Code: ExitDegraded}
	case deploy.Paused:
		return &exitError{Code: ExitChanges}
	case deploy.Interrupted:
		if got != 0 {
			return &exitError{Code: 128 + int(got)}
		}
		return &exitError{Code: ExitHalfway} // the lock is lost: old instances may have been stopped
	case deploy.Failed:
	}
	return &exitError{Code: ExitFailure}
}

// signalOf returns the signal that has ended the context, or 0.
func signalOf(ctx context.Context) syscall.Signal {
	s, _ := errors.AsType[process.Signalled](context.Cause(ctx))
	return s.Signal
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

	sidecarOptions

	canary canaryOptions

	noLock bool
	undoes string // the ID of the deployment that this one takes back

	json bool
}

func (o *deployOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.service, "service", "", "service name in Consul (required)")
	f.StringVar(&o.version, "version", "", "version to deploy, as new instances register it (required)")
	f.StringVar(&o.start, "start", "", "shell command that starts an instance")
	f.StringVar(&o.stop, "stop", "", "shell command that stops an instance")
	f.BoolVar(&o.once, "once", false, "run each command once for all instances of a batch, not once per instance")
	f.StringVar(&o.compose, "compose", "", "Docker Compose service whose containers to start and stop, instead of --start and --stop")
	f.StringVar(&o.variable, "compose-variable", "", "variable of the Compose file that holds the version (default: API_VERSION for a service api)")

	f.StringVar(&o.pattern, "instance-pattern", "", "regular expression that the whole ID of an instance must match to be stopped or counted (default: the service's name, alone or followed by a digit, - or @ and letters, digits, _.:@+-)")
	f.BoolVar(&o.foreign, "include-foreign", false, "also stop and count instances whose ID does not match the pattern or was not given to --start")

	f.IntVar(&o.count, "count", 0, "number of instances of the version after the deployment (default: the number of old ones)")
	f.IntVar(&o.batch, "batch", 0, "number of instances to start and stop at a time (default: all)")
	f.BoolVar(&o.redeploy, "redeploy", false, "replace all instances even if they already have this version")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "longest wait for new instances to become live on every load balancer")
	f.DurationVar(&o.minHealthy, "min-healthy", 10*time.Second, "how long new instances must stay live on every load balancer before an old instance is stopped")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 2*time.Minute, "longest wait for old instances to be drained on every load balancer")
	f.DurationVar(&o.commandTimeout, "command-timeout", 2*time.Minute, "longest run time of a command before it is killed")

	o.sidecarOptions.flags(f)
	f.BoolVar(&o.noLock, "no-lock", false, "deploy without the lock and the record in Consul's key/value store")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	o.canary.flags(cmd)
}

// check takes what variables say for flags that were not given, and names all
// that is wrong.
func (o *deployOptions) check(cmd *cobra.Command) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.service == "" {
		bad("--service: required")
	}
	if o.version == "" {
		bad("--version: required")
	}
	switch {
	case o.compose == "" && (o.start == "" || o.stop == ""):
		bad("--start and --stop, or --compose: required")
	case o.compose != "" && (o.start != "" || o.stop != "" || o.once):
		bad("--compose %s: cannot be combined with --start, --stop or --once", o.compose)
	case o.compose == "" && o.variable != "":
		bad("--compose-variable %s: requires --compose", o.variable)
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"timeout", o.timeout}, {"drain-timeout", o.drainTimeout}, {"command-timeout", o.commandTimeout}} {
		if d.value <= 0 {
			bad("--%s %s: must be greater than 0", d.flag, d.value)
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
	errs = append(errs, o.canary.check(cmd, o.batch, o.redeploy)...)
	return errors.Join(errs...)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/internal/envflag"
	"github.com/pointsman/pointsman/internal/reach"
	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/listener"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/notify"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/program"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/ready"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/wrapper"
	"github.com/pointsman/pointsman/registrator/platform"
)

func runCommand(ctx context.Context, p Process) *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "run [flags] -- program [argument]...",
		Short: "Run a program and keep it registered while it serves",
		Long: `Start the program directly, without a shell, and register it in Consul when its
checks first pass.

On SIGTERM or SIGINT the program leaves without failed requests:
  1. it is marked as leaving in Consul and keeps serving
  2. every load balancer that routes to it reports it drained (--sidecars)
  3. it gets --signal, and SIGKILL after --stop-timeout
  4. it is deregistered
A second SIGTERM or SIGINT kills it immediately. A program that exits by itself
is deregistered at once.

SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP and SIGCONT are forwarded.

Exit codes: the program's own, or 128+n if signal n ended it. Otherwise:
2 invalid arguments or settings, 125 the program was stopped because it did not
become ready or Consul refused the registration, 126 the program can't be
executed, 127 the program was not found.

Consul's address, token and certificates come from the variables of Consul's own
CLI: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_CACERT and others. Without
Consul the program runs, and the registration is retried.

Each flag can also be set by the environment variable in brackets. Separate
several entries with commas.`,
		Example: `  registrator run --service api --port 4000 --check http:/healthz -- ./program --listen :4000
  registrator run --service web --port 80 --signal QUIT -- nginx -g 'daemon off;'`,
		DisableFlagsInUseLine: true,
		PreRunE: func(cmd *cobra.Command, argv []string) error {
			ours, passed := platform.Split(p.Environ, prefix)
			if err := errors.Join(envflag.Set(cmd.Flags(), prefix, ours), checkConsul(p.Environ)); err != nil {
				return usage(err)
			}
			s.passedOver = passed
			if err := s.missing(argv); err != nil {
				return usage(err)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, argv []string) error { return s.run(ctx, argv, p) },
	}
	s.flags(cmd.Flags())
	// What follows the program's name is the program's, with or without "--".
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// run puts the parts together and runs them.
func (s *settings) run(ctx context.Context, argv []string, p Process) error {
	signals := receive(wrapper.Handled(s.foreground)) // first of all: one that comes now is not lost
	log := hclog.New(&hclog.LoggerOptions{Name: "registrator", Level: s.logLevel, Output: p.Stderr, JSONFormat: s.logJSON})
	if len(s.passedOver) > 0 {
		log.Warn("container platform's environment variables ignored", "variables", strings.Join(s.passedOver, ", "))
	}
	consul := api.DefaultConfig() // reads the environment, as the help says
	at, err := findPlace(ctx, s.address, consul.Address, reach.OutboundOrAny)
	if err != nil {
		return usage(err)
	}
	// What Consul checks at each of the hosts, and what is probed there.
	var checks [][]registrator.Check
	var probes [][]ready.Check
	for _, host := range at.hosts {
		c, p := s.checks(host)
		checks, probes = append(checks, c), append(probes, p)
	}
	config, err := s.registration(at, checks[0], consul, log)
	if err != nil {
		return usage(err)
	}
	registration, err := registrator.New(config)
	if err != nil {
		return usage(err)
	}
	until := ready.Config{Places: probes, Timeout: s.checkTimeout, Logger: log}
	if ready.Passes(ctx, until) {
		log.Warn("checks pass before the program runs: is another program on its port?")
	}
	manager, environ, err := notify.Open(p.Environ, log)
	if err != nil {
		return usage(err)
	}
	defer manager.Close()
	if !s.passToken {
		var removed []string
		if environ, removed = withoutSecrets(environ); len(removed) > 0 {
			log.Info("not passed on to the program", "variables", strings.Join(removed, ", "), "flag", "--pass-consul-token")
		}
	}
	found := at.hosts // where the program listens, once that is known
	status, err := wrapper.Run(ctx, wrapper.Config{
		Program: program.Config{
			Argv: argv, Environ: environ, SameGroup: s.foreground,
			// Not SIGKILL: the requests under way are finished, and one with
			// processes of its own takes them along.
			Orphan: s.signal,
			Init:   s.init || os.Getpid() == 1, Logger: log,
		},
		Registration: announced{registration, manager},
		Ready: func(ctx context.Context) error {
			host, err := ready.Await(ctx, until)
			if err != nil {
				return err
			}
			found = at.hosts[host : host+1]
			manager.Ready() // Consul may be away, and the program serves
			return registration.SetChecks(checks[host])
		},
		Other:        s.other(&found),
		ReadyTimeout: s.readyTimeout, Stop: s.signal, StopTimeout: s.stopTimeout,
		Signals: signals, Logger: log,
	})
	return exit(log, status, err)
}

// announced is a registration of which the service manager hears.
type announced struct {
	*registrator.Registration
	to *notify.Notifier
}

func (a announced) Register(ctx context.Context) error {
	err := a.Registration.Register(ctx)
	if err == nil {
		a.to.Status("registered in Consul as " + a.ID())
	}
	return err
}

func (a announced) Leave(ctx context.Context, stop func(context.Context) error) error {
	a.to.Stopping()
	return a.Registration.Leave(ctx, stop)
}

// other asks who listens in the program's place at the hosts at which it is
// checked.
func (s *settings) other(hosts *[]string) func(pid int) string {
	if s.anyListener {
		return nil
	}
	return func(pid int) string { return listener.Other(pid, s.port, *hosts) }
}

// receive gives the signals that come from now on. Those that were ignored
// when we started stay so, for the program too: nohup(1) asks for that.
func receive(handled []os.Signal) <-chan os.Signal {
	signals := make(chan os.Signal, 64) // far more than the loop can be behind
	for _, s := range handled {
		if s == syscall.SIGTERM || !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// exit turns the end of a run into an exit code.
func exit(log hclog.Logger, status program.Status, err error) error {
	if killed, ok := errors.AsType[wrapper.Killed](err); ok {
		return &exitError{Code: program.SignalCode(killed.Signal)} // it has been logged
	}
	if refused, ok := errors.AsType[*program.StartError](err); ok {
		if errors.Is(refused, fs.ErrNotExist) {
			return &exitError{Code: ExitNotFound, Err: fmt.Errorf("%q: not found: %w", refused.Program, refused.Err)}
		}
		return &exitError{Code: ExitNotExecuted, Err: fmt.Errorf("%q: cannot be executed: %w", refused.Program, refused.Err)}
	}
	if err != nil {
		log.Error("program stopped", "error", err)
		return &exitError{Code: ExitFailed}
	}
	if code := status.Code(); code != 0 {
		return &exitError{Code: code}
	}
	return nil
}

// Package cli is the client's command line: it reads the settings, runs the
// load, shows how it goes and gives the verdict.
//
// Its invariant: the exit code is 0 only after at least one request, when none
// failed and the report was written. Logs go to stderr; progress and the
// report to stdout, of which the last line is the report as JSON if that was
// asked for.
//
// Only main of services/client imports it.
package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/pointsman/pointsman/services/client/internal/load"
	"github.com/pointsman/pointsman/services/internal/command"
)

const prefix = "CLIENT_"

// Run runs the program and gives its exit code.
func Run(ctx context.Context, p command.Process) int {
	var s settings
	cmd := &cobra.Command{
		Use:   "client {--target URL | --discover SERVICE} [flags]",
		Short: "Sends requests at a set rate and fails if a single one of them does",
		Long: `The client simulates the users of the API. It sends requests at a set rate,
whatever becomes of the ones before, over kept and fresh connections, with GET
and POST. It never sends a request twice. A failure is anything but a whole 2xx
answer whose body fits its request, and each is printed with its cause:

  overrun    not sent: too many requests were under way
  timeout    not answered whole in time
  status     answered with anything but 2xx; redirects are not followed
  transport  no connection, or it ended before the whole answer
  body       the answer doesn't fit the request

With --discover the targets are the instances of a service in Consul that pass
their checks. New requests take turns over them; when one leaves, requests under
way finish where they are. Nothing is sent twice then, either. While Consul does
not answer, or names no instance, the last known targets stay. The variables
that Consul's own CLI reads say how to reach it: CONSUL_HTTP_ADDR,
CONSUL_HTTP_TOKEN, CONSUL_CACERT and so on.

Latency counts from when a request was due. SIGTERM or SIGINT ends the run,
waits for the requests under way and reports; a second one ends it at once.

Every flag is also set by the environment variable that stands behind it.`,
		Example: `  client --target http://lb0/ --rate 100
  client --target http://lb0/ --target http://lb1/ --duration 1m --json
  client --discover lb --consul 127.0.0.1:8500`,
	}
	s.flags(cmd.Flags())
	return command.Main(ctx, p, prefix, cmd, func(ctx context.Context) error { return s.run(ctx, cmd.Flags(), p) })
}

// run is the program, once the settings are read.
func (s *settings) run(ctx context.Context, flags *pflag.FlagSet, p command.Process) error {
	screen, err := newScreen(s.progress, p.Stdout)
	bad := []error{s.named(flags, "progress", err)}
	log, err := s.log.New(prefix, flags, screen.around(p.Stderr))
	bad = append(bad, err)
	config, err := s.config(flags)
	bad = append(bad, err, s.named(flags, "report", checkReport(s.report)))
	if err := errors.Join(bad...); err != nil {
		return command.UsageError{Err: err}
	}
	log = log.With(zap.String("name", s.name))
	failures := failureLog{log: log}
	config.OnFailure = failures.add
	if s.logFirst {
		config.OnServer = func(server load.Server) { logServer(log, server) }
	}
	watch, err := s.find(ctx, flags, log, &config)
	if err != nil {
		return err
	}
	engine, err := load.New(config)
	if err != nil {
		return command.UsageError{Err: err}
	}
	log.Info("started", zap.Strings("targets", texts(config.Targets)), zap.Float64("rate", s.rate), zap.Duration("duration", s.duration))

	announced := context.AfterFunc(ctx, func() {
		log.Info("stopping; waiting for the requests under way", zap.NamedError("cause", context.Cause(ctx)), zap.Int("in_flight", engine.Snapshot().InFlight))
	})
	defer announced()
	showing, stopShowing := context.WithCancel(context.WithoutCancel(ctx))
	shown := make(chan struct{})
	go func() { defer close(shown); show(showing, engine, screen, &failures, s.name) }()
	followed := follow(showing, watch, engine, log)
	report, err := engine.Run(ctx)
	stopShowing()
	<-followed
	<-shown
	screen.done()
	if err != nil {
		return err
	}
	report.Name = s.name
	return s.conclude(ctx, log, p, report)
}

// show draws the progress and closes the failure log's second, each second.
func show(ctx context.Context, engine *load.Load, screen *screen, failures *failureLog, name string) {
	defer failures.second()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			screen.progress(progressLine(name, engine.Snapshot()))
			failures.second()
		case <-ctx.Done():
			return
		}
	}
}

// conclude writes the report and gives the verdict.
func (s *settings) conclude(ctx context.Context, log *zap.Logger, p command.Process, report load.Report) error {
	fields := []zap.Field{zap.Uint64("requests", report.Requests), zap.Uint64("failed", report.Failed)}
	if cause := context.Cause(ctx); cause != nil {
		fields = append(fields, zap.NamedError("cause", cause))
	}
	if report.Failed > 0 {
		log.Error("stopped: requests failed", append(fields, zap.Any("failures", report.Failures))...)
	} else {
		log.Info("stopped", fields...)
	}
	if err := writeReport(report, s.report, s.json, p.Stdout); err != nil {
		return err
	}
	switch {
	case report.Failed > 0:
		return command.ErrFailed
	case report.Requests == 0:
		return errors.New("no request was made, so nothing is shown")
	}
	return nil
}

func logServer(log *zap.Logger, s load.Server) {
	log.Info("first response from "+s.Instance+" version "+s.Version,
		zap.String("instance", s.Instance), zap.String("version", s.Version), zap.String("target", s.Target))
}

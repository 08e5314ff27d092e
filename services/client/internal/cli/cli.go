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
		Short: "Send requests at a fixed rate and fail if one request fails",
		Long: `Measure a service through its load balancers, as during a deployment. The client
sends requests at a fixed rate, whether or not earlier ones have finished, over
reused and new connections. It never sends a request twice. Each failure is
printed with its cause:

  overrun    not sent: too many requests in flight
  timeout    no complete answer in time
  status     status other than --expect-status; redirects are not followed
  transport  no connection, or closed before the complete answer
  body       body other than --expect-body, or --expect-echo

With --discover the targets are the passing instances of a service in Consul.
New requests are spread over them evenly. When an instance leaves, its requests
in flight finish. While Consul does not answer, or has no passing instance, the
last known targets stay. Consul's address and token come from the variables of
Consul's own CLI: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_CACERT and others.

Latency counts from the time at which a request was due. SIGTERM or SIGINT ends
the run, waits for requests in flight and reports. A second signal exits
immediately. Exit codes: 0 no request failed, 1 a request failed or none was sent,
2 invalid usage.

Each flag can also be set by the environment variable in brackets.`,
		Example: `  client --target http://lb0/ --rate 100
  client --target http://lb0/ --target http://lb1/ --duration 1m --json
  client --target https://shop.example.com/healthz --expect-body '"status":"ok"'
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
		return command.Usage(err)
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
		return command.Usage(err)
	}
	log.Info("started", zap.Strings("targets", texts(config.Targets)), zap.Float64("rate", s.rate), zap.Duration("duration", s.duration))

	announced := context.AfterFunc(ctx, func() {
		log.Info("stopping, waiting for requests in flight", zap.NamedError("cause", context.Cause(ctx)), zap.Int("in_flight", engine.Snapshot().InFlight))
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
		return errors.New("no requests sent")
	}
	return nil
}

func logServer(log *zap.Logger, s load.Server) {
	message, fields := "first response from "+s.Instance, []zap.Field{zap.String("instance", s.Instance)}
	if s.Version != "" {
		message += " version " + s.Version
		fields = append(fields, zap.String("version", s.Version))
	}
	log.Info(message, append(fields, zap.String("target", s.Target))...)
}

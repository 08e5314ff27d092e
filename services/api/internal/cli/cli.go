// Package cli is the API node's command line: it reads the settings and puts
// node, registration and server together.
//
// Its invariant: nothing listens and nothing is registered before all settings
// were found good.
//
// Only main of services/api imports it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/hashicorp/consul/api"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/pointsman/pointsman/internal/envflag"
	"github.com/pointsman/pointsman/internal/reach"
	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/services/api/internal/node"
	"github.com/pointsman/pointsman/services/api/internal/serve"
	"github.com/pointsman/pointsman/services/internal/command"
	"github.com/pointsman/pointsman/services/internal/zaphclog"
)

const prefix = "API_"

// Run runs the program and gives its exit code.
func Run(ctx context.Context, p command.Process) int {
	var s settings
	cmd := &cobra.Command{
		Use:   "api [flags]",
		Short: "Serve one node of the demo API and register it in Consul",
		Long: `Serve one node of the demo API and register it in Consul.

  /         the node: {"instance", "version", "requests"}. Any method; ?id= is
            returned, and for a POST the length and SHA-256 of the body
  /slow     the same after ?ms= milliseconds
  /stream   ?chunks= lines of JSON, ?ms= milliseconds apart
  /healthz  200, the health check
  /fail     POST ?mode=5xx (/ answers 503), hang (/ does not answer), critical
            (/healthz answers 503) or ok, with &for=10s for a time; GET shows it

On SIGTERM or SIGINT the node leaves without failed requests. It is marked as
leaving in Consul and keeps serving, with a passing check, until every load
balancer reports it drained. Then it stops accepting connections, finishes the
requests in flight and deregisters. A second signal exits immediately.

Consul's address, token and certificates come from the variables of Consul's own
CLI: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_CACERT and others. Without
Consul the node serves and retries.

Each flag can also be set by the environment variable in brackets.`,
		Example: `  api --instance api0 --version-name 1.0
  api --listen 127.0.0.1:0 --no-register`,
	}
	s.flags(cmd.Flags())
	return command.Main(ctx, p, prefix, cmd, func(ctx context.Context) error { return s.run(ctx, cmd.Flags(), p) })
}

// run is the program, once the settings are read.
func (s *settings) run(ctx context.Context, flags *pflag.FlagSet, p command.Process) error {
	log, errLog := s.log.New(prefix, flags, p.Stderr)
	n, errNode := node.New(s.instance, s.version)
	if errNode == nil {
		if err := n.Fail(s.fail); err != nil {
			errNode = fmt.Errorf("%s: %w", envflag.Name(prefix, flags, "fail"), err)
		}
	}
	if err := errors.Join(errLog, s.check(flags), errNode); err != nil {
		return command.Usage(err)
	}
	log = log.With(zap.String("instance", s.instance), zap.String("version", s.version))

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("%s: %w", envflag.Name(prefix, flags, "listen"), err)
	}
	var all drains
	registration, err := s.registration(ctx, log, listener.Addr(), all.note)
	if err != nil {
		return errors.Join(command.Usage(err), listener.Close())
	}
	server, err := serve.New(serve.Config{
		Listener: listener, Node: n, Registration: registration,
		Linger: s.linger, Drained: all.complete, StopTimeout: s.stopTimeout, Logger: log,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return server.Run(ctx)
}

// registration returns the node's entry in Consul, or nil if there is to be
// none.
func (s *settings) registration(ctx context.Context, log *zap.Logger, listening net.Addr, noted func(registrator.Drain)) (serve.Registration, error) {
	if s.noRegister {
		return nil, nil
	}
	consul := api.DefaultConfig() // reads the environment, as the help says
	if s.consul != "" {
		consul.Address = s.consul
	}
	at, err := advertise(ctx, s.address, listening, consul.Address, reach.OutboundOrAny)
	if err != nil {
		return nil, err
	}
	log.Info("registration", zap.String("service", s.service), zap.String("id", s.id),
		zap.String("address", at.shown()), zap.Int("port", at.port), zap.String("check", at.healthURL()))
	sidecars := s.sidecar
	sidecars.Off, sidecars.Service = s.sidecars == "" || s.sidecars == "off", s.sidecars
	return registrator.New(registrator.Config{
		Consul:  consul,
		Service: s.service, ID: s.id, Address: at.address, Port: at.port, Version: s.version,
		Checks:    []registrator.Check{{HTTP: at.healthURL()}},
		LeaveWait: s.leaveWait, LeaveTimeout: s.leaveTimeout, Sidecars: sidecars,
		OnDrain: noted,
		Logger:  zaphclog.New(log.Named("registrator")), // it tells of each load balancer too
	})
}

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
		Short: "Serves one node of the demo API and registers it in Consul",
		Long: `The api serves one node of the demo API and registers it in Consul.

  /         who answers: {"instance", "version", "requests"}. Any method; ?id= is
            given back, and of a POST's body the length and the SHA-256
  /slow     the same after ?ms= milliseconds
  /stream   ?chunks= lines of JSON, ?ms= milliseconds apart
  /healthz  200, the health check
  /fail     POST ?mode=5xx (/ answers 503), hang (/ does not answer), critical
            (/healthz answers 503) or ok, with &for=10s for a time; GET tells

On SIGTERM or SIGINT it leaves in the order that loses no request: it is marked
as leaving in Consul and serves on, with a green check, until every load balancer
that routes to it says that nobody is on it any more; then it stops accepting,
finishes what is in flight and deregisters. A second signal ends it at once.

Where Consul is, and with which token and certificates to talk to it, is set by
the variables that Consul's own CLI reads: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
CONSUL_CACERT and so on. Without Consul it serves, and goes on trying.

Every flag is also set by the environment variable that stands behind it.`,
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
			errNode = fmt.Errorf("%s: %w", command.Name(prefix, flags, "fail"), err)
		}
	}
	if err := errors.Join(errLog, s.check(flags), errNode); err != nil {
		return command.UsageError{Err: err}
	}
	log = log.With(zap.String("instance", s.instance), zap.String("version", s.version))

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("%s: %w", command.Name(prefix, flags, "listen"), err)
	}
	var all letGo
	registration, err := s.registration(ctx, log, listener.Addr(), all.note)
	if err != nil {
		return errors.Join(command.UsageError{Err: err}, listener.Close())
	}
	server, err := serve.New(serve.Config{
		Listener: listener, Node: n, Registration: registration,
		Linger: s.linger, LetGo: all.have, StopTimeout: s.stopTimeout, Logger: log,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return server.Run(ctx)
}

// registration gives the node's entry in Consul, or nil if there is to be
// none.
func (s *settings) registration(ctx context.Context, log *zap.Logger, listening net.Addr, letGo func(registrator.LetGo)) (serve.Registration, error) {
	if s.noRegister {
		return nil, nil
	}
	consul := api.DefaultConfig() // reads the environment, as the help says
	if s.consul != "" {
		consul.Address = s.consul
	}
	at, err := advertise(ctx, s.address, listening, consul.Address, outbound)
	if err != nil {
		return nil, err
	}
	log.Info("to be registered", zap.String("service", s.service), zap.String("id", s.id),
		zap.String("address", at.shown()), zap.Int("port", at.port), zap.String("check", at.healthURL()))
	sidecars := s.sidecar
	sidecars.Off, sidecars.Service = s.sidecars == "" || s.sidecars == "off", s.sidecars
	return registrator.New(registrator.Config{
		Consul:  consul,
		Service: s.service, ID: s.id, Address: at.address, Port: at.port, Version: s.version,
		Checks:    []registrator.Check{{HTTP: at.healthURL()}},
		LeaveWait: s.leaveWait, LeaveTimeout: s.leaveTimeout, Sidecars: sidecars,
		OnLetGo: letGo,
		Logger:  zaphclog.New(log.Named("registrator")), // it tells of each load balancer too
	})
}

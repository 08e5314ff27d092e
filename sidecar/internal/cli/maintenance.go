package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

func maintenanceCommand(env Env) *cobra.Command {
	return group("maintenance", "Take this load balancer out of rotation and back",
		`Take this load balancer out of rotation for maintenance and back. HAProxy's
health answer (haproxy.health.bind) changes to 503, so clients use other load
balancers. Requests that still arrive are served. The command uses HAProxy's
runtime socket and works without a running sidecar. A running sidecar writes the
state to haproxy.cfg, so a restarted HAProxy keeps it.`,
		maintenanceOn(env), maintenanceOff(env), maintenanceStatus(env))
}

func maintenanceOn(env Env) *cobra.Command {
	var o maintenanceOptions
	cmd := &cobra.Command{
		Use:   "on",
		Short: "Go out of rotation and wait until no request is in flight",
		Long: `Take this load balancer out of rotation. Wait until its services have no requests
in flight, old workers included, no new requests arrive, and haproxy.cfg has the
maintenance too. Idle client connections do not count. Exits with 1 if the wait
times out; the maintenance stays on. With --wait 0s it exits with 0 once HAProxy has
it; a reload that is under way may undo that until haproxy.cfg has it, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return maintain(cmd, env, o, func(ctx context.Context, m *daemon.MaintenanceSwitch) (daemon.Maintenance, error) {
				return m.On(ctx, o.wait)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func maintenanceOff(env Env) *cobra.Command {
	var o maintenanceOptions
	cmd := &cobra.Command{
		Use:   "off",
		Short: "Go back into rotation",
		Long: `Bring this load balancer back into rotation and wait until haproxy.cfg has the
change. Exits with 1 if the wait times out; the maintenance stays off. --wait 0s is as
with "on".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return maintain(cmd, env, o, func(ctx context.Context, m *daemon.MaintenanceSwitch) (daemon.Maintenance, error) {
				return m.Off(ctx, o.wait)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func maintenanceStatus(env Env) *cobra.Command {
	var o maintenanceOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether it is in rotation, and the requests in flight",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return maintain(cmd, env, o, func(ctx context.Context, m *daemon.MaintenanceSwitch) (daemon.Maintenance, error) {
				return m.Status(ctx)
			})
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

type maintenanceOptions struct {
	json bool
	wait time.Duration
}

func (o *maintenanceOptions) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	cmd.Flags().DurationVar(&o.wait, "wait", 30*time.Second, "longest wait; 0s checks once whether HAProxy has the change, and does not wait")
}

// maintain runs one of the commands and prints what came of it.
func maintain(cmd *cobra.Command, env Env, o maintenanceOptions, do func(context.Context, *daemon.MaintenanceSwitch) (daemon.Maintenance, error)) error {
	cfg, err := load(cmd, env)
	if err != nil {
		return err
	}
	if !daemon.InRotation(cfg) {
		return &exitError{Code: ExitUsage, Err: fmt.Errorf("maintenance: %w", daemon.ErrNoAnswer)}
	}
	if o.wait < 0 {
		return &exitError{Code: ExitUsage, Err: fmt.Errorf("--wait %s: must not be negative", o.wait)}
	}
	m, err := newMaintainer(cfg)
	if err != nil {
		return &exitError{Code: ExitUsage, Err: err}
	}
	result, err := do(cmd.Context(), m)
	if err != nil {
		return failure(err)
	}
	if err := printMaintenance(env.Stdout, result, o.json); err != nil {
		return failure(err)
	}
	return failure(result.Failure())
}

func newMaintainer(cfg config.Config) (*daemon.MaintenanceSwitch, error) {
	p, err := daemon.NewProxy(cfg, hclog.NewNullLogger(), nil)
	if err != nil {
		return nil, err
	}
	m := &daemon.MaintenanceSwitch{
		Name: cfg.Name, Haproxy: p, File: cfg.HAProxy.Config, Read: render.ReadRegular,
		// The longest time that Consul goes on to send clients here; then a little.
		Quiet: cfg.Registration.Check.Interval + cfg.Registration.Check.Timeout + time.Second/2,
	}
	for _, s := range cfg.Services {
		m.Backends = append(m.Backends, s.Backend)
	}
	return m, nil
}

func printMaintenance(w io.Writer, m daemon.Maintenance, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(m)
	}
	_, err := fmt.Fprintln(w, m)
	return err
}

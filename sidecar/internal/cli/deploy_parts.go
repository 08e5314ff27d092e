package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
	"github.com/pointsman/pointsman/sidecar/internal/runner"
)

// deployParts is what a deployment is put together from.
type deployParts struct {
	options deploy.Options
	catalog *deployCatalog
	client  *sidecarapi.Client

	rollouts rollout.Store // with --canary or --blue-green
}

func newDeployParts(ctx context.Context, cfg config.Config, env Env, o *deployOptions, screen *deployScreen) (*deployParts, error) {
	order, errOrder := o.order()
	catalog, balancers, err := o.reach(cfg, env, o.service)
	if err := errors.Join(errOrder, err); err != nil {
		return nil, &exitError{Code: ExitUsage, Err: err}
	}
	p := &deployParts{catalog: catalog, client: balancers.client}
	commands := runner.Runner{Environ: env.Environ, Timeout: o.commandTimeout, Output: screen.output}
	p.options = deploy.Options{
		Order:   order,
		Catalog: catalog, Balancers: balancers,
		Say: screen.say, Show: screen.show,
	}
	if o.canary.isShared() {
		if p.rollouts, err = daemon.RolloutStore(cfg); err != nil {
			p.close()
			return nil, err
		}
		p.options.Canary = &canaryRollout{store: p.rollouts, service: o.service, version: o.version, options: o.canary, by: deployer(env)}
		if o.canary.blueGreen {
			p.options.BlueGreen = &deploy.BlueGreen{Preview: o.canary.preview, Keep: o.canary.keep}
		}
	}
	if o.compose == "" {
		p.options.Nodes = &runner.Shell{Runner: commands, StartCommand: o.start, StopCommand: o.stop, Once: o.once}
		return p, nil
	}
	compose := &runner.Compose{Runner: commands, Service: o.compose, Variable: o.composeVariable()}
	size, err := compose.Size(ctx)
	if err != nil {
		p.close()
		return nil, failure(fmt.Errorf("--compose %s: %w", o.compose, err))
	}
	p.options.Nodes, p.options.Size = compose, size
	return p, nil
}

// order is what is to be deployed.
func (o *deployOptions) order() (deploy.Order, error) {
	order := deploy.Order{
		Service: o.service, Version: o.version, Count: o.count, Batch: o.batch, Redeploy: o.redeploy,
		Timeout: o.timeout, MinHealthy: o.minHealthy, DrainTimeout: o.drainTimeout, PauseTimeout: o.canary.pauseTimeout,
		LoadBalancers: o.loadBalancers, Without: o.without, Nonce: nonce(), IncludeForeign: o.foreign,
	}
	if o.pattern == "" {
		return order, nil
	}
	var err error
	order.Pattern, err = deploy.ParsePattern(o.pattern)
	switch {
	case err != nil:
		return order, fmt.Errorf("--instance-pattern: %w", err)
	case o.compose == "" && !o.foreign && !order.Pattern.MatchString(order.NodeID(0)):
		return order, fmt.Errorf("--instance-pattern %s: does not match the IDs of new instances, such as %s, so the next deployment could not stop them", o.pattern, order.NodeID(0))
	}
	return order, nil
}

func (p *deployParts) close() {
	p.catalog.reader.Close()
	p.client.Close()
	if p.rollouts.KV != nil {
		p.rollouts.KV.Close()
	}
}

// nonce makes the IDs that are proposed to nodes another in each run.
func nonce() string { return strings.ToLower(rand.Text()[:8]) }

// composeVariable is API_VERSION for a service api.
func (o *deployOptions) composeVariable() string {
	if o.variable != "" {
		return o.variable
	}
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(o.compose)) + "_VERSION"
}

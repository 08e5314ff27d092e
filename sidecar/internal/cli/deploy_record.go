package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/history"
)

// runRecorded runs a deployment under the lock of its service, and keeps a record of it
// in Consul.
func runRecorded(ctx context.Context, cfg config.Config, env Env, o *deployOptions, parts *deployParts, screen *deployScreen) (deploy.Result, error) {
	order := parts.options.Order
	if _, err := deploy.New(parts.options); err != nil { // before anything is recorded
		return deploy.Result{}, &exitError{Code: ExitUsage, Err: err}
	}
	if o.noLock {
		return runParts(ctx, parts)
	}
	book, err := daemon.NewBook(cfg)
	if err != nil {
		return deploy.Result{}, err
	}
	defer book.KV.Close()
	now := time.Now()
	within, entry, err := book.Begin(ctx, history.Deployment{
		ID: order.Nonce, Service: order.Service, Version: order.Version, Count: order.Count, Undoes: o.undoes,
		By: deployer(env), Started: now, Updated: now,
	})
	if locked, is := errors.AsType[*history.LockedError](err); is {
		return deploy.Result{}, &exitError{Code: ExitLocked, Err: fmt.Errorf("deploy %s: %w", order.Service, locked)}
	}
	if err != nil {
		if consul.IsForbidden(err) {
			err = fmt.Errorf("%w: the Consul token needs key:write for pointsman/deployments/ and session:write; --no-lock deploys without lock and record", err)
		}
		return deploy.Result{}, failure(err)
	}
	parts.options.Step = entry.Begins
	show := parts.options.Show
	parts.options.Show = func(bars []deploy.Bar) {
		show(bars)
		entry.Update(func(d *history.Deployment) { d.LoadBalancers = bars })
	}
	result, err := runParts(within, parts)
	if err := entry.End(ctx, result); err != nil {
		screen.say("warning: result not recorded: " + err.Error())
	}
	return result, err
}

func runParts(ctx context.Context, parts *deployParts) (deploy.Result, error) {
	d, err := deploy.New(parts.options)
	if err != nil {
		return deploy.Result{}, &exitError{Code: ExitUsage, Err: err}
	}
	return d.Run(ctx), nil
}

// deployer is who deploys, as user@host.
func deployer(env Env) string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = cmp.Or(u.Username, u.Uid)
	}
	return name + "@" + env.Hostname
}

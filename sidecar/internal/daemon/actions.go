package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// drainer returns the action that drains a server, or ends that.
func drainer(a *reconcile.Agent) api.SetDrain {
	return func(ctx context.Context, service, server string, on bool) (string, bool, error) {
		d, err := a.SetDrain(ctx, service, server, on)
		return d.Server, !errors.Is(err, reconcile.ErrNotRouted) && !errors.Is(err, reconcile.ErrNoServer), err
	}
}

// releaser returns the action that releases what the guard holds.
func releaser(a *reconcile.Agent) api.Release {
	return func(ctx context.Context, service string) ([]string, bool, error) {
		servers, err := a.Release(ctx, service)
		return servers, !errors.Is(err, reconcile.ErrNotRouted), err
	}
}

// reloader returns the action that asks for a reload.
func reloader(a *reconcile.Agent) api.RequestReload {
	return func(ctx context.Context, by string) (sidecarapi.ReloadRequest, bool, error) {
		q, err := a.RequestReload(ctx, catalog.Printable(by))
		return sidecarapi.ReloadRequest{Number: q.Number, By: q.By, At: q.At, Status: string(q.Status)}, errors.Is(err, reconcile.ErrNothingToReload), err
	}
}

// WithRightsHint adds to a refusal of Consul which rights the token needs for rollouts.
func WithRightsHint(err error) error {
	if consul.IsForbidden(err) {
		return fmt.Errorf("%w: the Consul token needs key:write for the prefix %s, to look at rollouts key:read", err, rollout.Prefix)
	}
	return err
}

// RolloutChanged is the body of an answer about a rollout that the API has changed.
type RolloutChanged struct {
	LoadBalancer string            `json:"load_balancer"`
	Document     *rollout.Document `json:"document"`
}

// rolloutChanger changes rollouts for the API of a load balancer.
func rolloutChanger(store rollout.Store, balancer string) api.ChangeRollout {
	return func(ctx context.Context, service, change string, seen time.Time) (any, bool, error) {
		isRefused := false
		d, err := store.Change(ctx, service, false, func(d *rollout.Document) (*rollout.Document, error) {
			next, err := d.Do(change, rollout.Author{By: "API of " + balancer, At: time.Now().UTC().Truncate(time.Millisecond)}, "by an operator")
			if !seen.IsZero() && !d.ModifiedAt.Equal(seen) {
				err = &rollout.ChangedError{Service: service, Is: d}
			}
			isRefused = err != nil
			return next, err
		})
		if changed, is := errors.AsType[*rollout.ChangedError](err); is {
			return nil, true, changed
		}
		_, isInvalid := errors.AsType[*rollout.InvalidError](err)
		if err != nil {
			return nil, isRefused || isInvalid, WithRightsHint(err)
		}
		return RolloutChanged{balancer, d}, false, nil
	}
}

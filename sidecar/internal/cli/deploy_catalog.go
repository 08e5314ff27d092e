package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// deployCatalog is Consul as a deployment wants it.
type deployCatalog struct {
	reader            *consul.Reader
	service, sidecars string
	at                map[string]string // URLs that stand in for registered ones
}

var _ deploy.Catalog = (*deployCatalog)(nil)

func newDeployCatalog(o consul.Options, service, sidecars string, at map[string]string) (*deployCatalog, error) {
	reader, err := consul.NewReader(o)
	return &deployCatalog{reader, service, sidecars, at}, err
}

// Instances implements deploy.Catalog.
func (c *deployCatalog) Instances(ctx context.Context) (deploy.Listing, error) {
	report, err := c.reader.Service(ctx, c.service)
	if err != nil {
		return deploy.Listing{}, err
	}
	listing := deploy.Listing{Index: report.Index}
	for _, e := range report.Entries {
		i := deploy.Instance{
			ID: e.ID, Node: e.Node, Address: e.Address, Version: e.Meta.Version, Leaving: !e.Meta.Leaving.IsZero(),
		}
		if e.Rejected != nil {
			i.Problem = e.Rejected.Error()
		}
		for _, check := range e.Checks {
			if check.Status != catalog.Passing.String() {
				i.Checks = append(i.Checks, deploy.Check(check))
			}
		}
		listing.Instances = append(listing.Instances, i)
	}
	return listing, nil
}

// Balancers implements deploy.Catalog. A sidecar whose check fails is one, too:
// its HAProxy may still serve.
func (c *deployCatalog) Balancers(ctx context.Context) ([]deploy.Balancer, error) {
	report, err := c.reader.Service(ctx, c.sidecars)
	if err != nil {
		return nil, err
	}
	var list []deploy.Balancer
	for _, e := range report.Entries {
		b := deploy.Balancer{Name: e.Sidecar.Balancer, Stopped: e.Sidecar.Stopped, Passing: e.Health == catalog.Passing && e.Sidecar.Stopped.IsZero()}
		switch {
		case b.Name == "":
			// It is unknown whose it is: it may be one that routes the service.
			b.Name = "of sidecar " + deploy.Quote(e.ID)
			b.Problem = e.NoSidecar.Error()
		case !e.Sidecar.MayRoute(c.service) && e.NoSidecar == nil:
			continue
		case daemon.IsGone(e):
			continue
		case c.at[b.Name] != "":
			b.URL = c.at[b.Name]
		case e.Address == "":
			b.Problem = "registration without a usable address"
		case e.Sidecar.HTTPS:
			b.URL = "https://" + e.Address
		default:
			b.URL = "http://" + e.Address
		}
		if b.Problem == "" && e.NoSidecar != nil {
			b.Problem = e.NoSidecar.Error()
		}
		list = append(list, b)
	}
	return list, nil
}

// deployBalancers asks the sidecars.
type deployBalancers struct {
	client  *sidecarapi.Client
	service string
	at      map[string]string // the operator's own addresses, by the load balancer's name
}

var _ deploy.Balancers = deployBalancers{}

// Live implements deploy.Balancers.
func (d deployBalancers) Live(ctx context.Context, b deploy.Balancer, version string, count int, wait time.Duration) (bool, error) {
	if b.Problem != "" {
		return false, errors.New(b.Problem)
	}
	live, err := d.client.Live(ctx, d.target(b), d.service, version, count, wait)
	return live.Live, d.failed(b, err)
}

// Drained implements deploy.Balancers.
func (d deployBalancers) Drained(ctx context.Context, b deploy.Balancer, instance string, index uint64, wait time.Duration) (deploy.Drain, error) {
	if b.Problem != "" {
		return deploy.Drain{}, errors.New(b.Problem)
	}
	drain, err := d.client.Drain(ctx, d.target(b), d.service, instance, index, wait)
	return deploy.Drain{Drained: drain.Drained, Phase: drain.Phase, Sessions: drain.Sessions}, d.failed(b, err)
}

// View implements deploy.Balancers.
func (d deployBalancers) View(ctx context.Context, b deploy.Balancer) (deploy.View, error) {
	if b.Problem != "" {
		return deploy.View{}, errors.New(b.Problem)
	}
	got, err := d.client.View(ctx, d.target(b), d.service)
	if err != nil {
		return deploy.View{}, d.failed(b, err)
	}
	view := deploy.View{Index: got.Index, Instances: map[deploy.Key]deploy.Seen{}, Rejected: map[deploy.Key]string{}, Fixed: got.FixedShares}
	view.Shares, view.Unapplied = sharesIn(got.Rollouts)
	for _, i := range got.Instances {
		if i.ID == "" {
			view.Unlisted = view.Unlisted || i.Sessions > 0 || i.Phase != "out"
			continue
		}
		seen := deploy.Seen{
			Version: i.Version, Phase: i.Phase, Sessions: i.Sessions, Check: i.Check, Takes: i.Phase == "up" && i.Weight > 0 && !i.Leaving,
			Ready: i.Phase == "up" && (i.Weight > 0 || i.ByShare) && !i.Leaving,
		}
		key := deploy.Key{ID: i.ID, Node: i.Node}
		if was, known := view.Instances[key]; known { // in another backend of the service
			seen.Sessions += was.Sessions
			if !was.Takes {
				seen.Phase, seen.Takes = was.Phase, false
			}
			seen.Ready = seen.Ready && was.Ready
		}
		view.Instances[key] = seen
	}
	for _, r := range got.Rejected {
		view.Rejected[deploy.Key{ID: r.ID, Node: r.Node}] = r.Error
	}
	return view, nil
}

// sharesIn returns the shares that all backends of a service have, as seen in the one that
// is farthest from what is wanted.
func sharesIn(backends []*sidecarapi.ViewRollout) (shares map[string]deploy.Share, unapplied string) {
	for n, r := range backends {
		if r == nil {
			return nil, unapplied
		}
		unapplied = cmp.Or(unapplied, r.Ignored, r.Refused)
		has := map[string]deploy.Share{}
		for _, s := range r.Shares {
			one := deploy.Share{Wanted: s.Percent, Seen: s.Actual}
			was, isKnown := shares[s.Version]
			if isKnown && math.Abs(was.Seen-float64(was.Wanted)) > math.Abs(one.Seen-float64(one.Wanted)) {
				one = was
			}
			if n == 0 || isKnown && was.Wanted == s.Percent {
				has[s.Version] = one
			}
		}
		shares = has
	}
	return shares, unapplied
}

func (d deployBalancers) target(b deploy.Balancer) sidecarapi.Target {
	return sidecarapi.Target{LoadBalancer: b.Name, URL: b.URL, Registered: d.at[b.Name] == ""}
}

// failed is a deployment's error of a request.
func (d deployBalancers) failed(b deploy.Balancer, err error) error {
	if d.at[b.Name] == "" {
		err = daemon.WithTokenHint(err, "--sidecar-ca-file, or name the address by --load-balancer")
	}
	switch {
	case errors.Is(err, sidecarapi.ErrNotRouted):
		return deploy.ErrNotRouted
	case err != nil && !b.Stopped.IsZero():
		return fmt.Errorf("its sidecar stopped at %s and its HAProxy keeps running: start the sidecar, or leave the load balancer out with --without: %w",
			b.Stopped.Format(time.RFC3339), err)
	}
	return err
}

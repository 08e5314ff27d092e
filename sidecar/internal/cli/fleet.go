package cli

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
)

// newGatherer looks at all load balancers: the sidecars that are registered in
// Consul as this one is. The token goes to them only over TLS and with
// api.tls.ca_file.
func newGatherer(cfg config.Config, own func() fleet.Summary) (*fleet.Gatherer, error) {
	s := cfg.API
	reader, errReader := consul.NewReader(consulOptions(cfg, hclog.NewNullLogger()))
	client, errClient := api.NewClient(api.ClientOptions{
		Token: s.Token.Reveal(), TokenFile: s.TokenFile,
		CAFile: s.TLS.CAFile, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile,
	})
	if err := errors.Join(errReader, errClient); err != nil {
		return nil, err
	}
	return &fleet.Gatherer{
		Name: cfg.Name, Own: own,
		Members: func(ctx context.Context) ([]fleet.Member, error) {
			if s.Service == "" {
				return nil, errors.New("api.service is empty: sidecars do not register")
			}
			report, err := reader.Service(ctx, s.Service)
			if err != nil {
				return nil, err
			}
			return members(report), nil
		},
		Ask: func(ctx context.Context, m fleet.Member) (*fleet.Summary, error) {
			var answer fleet.Answer
			err := client.Summary(ctx, api.Target{LoadBalancer: m.Name, URL: m.URL, Registered: true}, &answer)
			return (*fleet.Summary)(&answer), err
		},
	}, nil
}

// members are the registered sidecars. One that stopped and whose HAProxy has gone
// as well is none.
func members(report consul.Report) (out []fleet.Member) {
	for _, e := range report.Entries {
		m := fleet.Member{Name: e.Sidecar.Balancer, Stopped: e.Sidecar.Stopped}
		switch {
		case m.Name == "":
			m.Name, m.Problem = "of sidecar "+e.ID, "registration without a load balancer's name"
		case isGone(e):
			continue
		case e.Address == "":
			m.Problem = "registration without a usable address"
		case e.NoSidecar != nil:
			m.Problem = e.NoSidecar.Error()
		case e.Sidecar.HTTPS:
			m.URL = "https://" + e.Address
		default:
			m.URL = "http://" + e.Address
		}
		out = append(out, m)
	}
	return out
}

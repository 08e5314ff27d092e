package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
)

// errNoSidecar is all that is shown of a registered address that is of no use. Anybody may
// register one, and would learn which ports are open where he can't reach; the log
// has the reason.
var errNoSidecar = errors.New("no answer within 2s of a sidecar of this name; the log of the sidecar that has asked says why")

// newGatherer looks at all load balancers: the sidecars that are registered in
// Consul as this one is. The token goes to them only over TLS and with
// api.tls.ca_file.
func newGatherer(cfg config.Config, rules func() consul.Addresses, log hclog.Logger, own func() fleet.Summary) (*fleet.Gatherer, error) {
	s := cfg.API
	reader, errReader := consul.NewReader(consulOptions(cfg, hclog.NewNullLogger()))
	client, errClient := api.NewClient(api.ClientOptions{
		Token: s.Token.Reveal(), TokenFile: s.TokenFile,
		CAFile: s.TLS.CAFile, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile,
	})
	if err := errors.Join(errReader, errClient); err != nil {
		return nil, err
	}
	told := toldOnce{}
	return &fleet.Gatherer{
		Name: cfg.Name, Own: own,
		Members: func(ctx context.Context) ([]fleet.Member, error) {
			if s.Service == "" {
				return nil, errors.New("api.service is empty: sidecars do not register")
			}
			report, err := reader.Judged(ctx, s.Service, rules())
			if err != nil {
				return nil, err
			}
			return members(report), nil
		},
		Ask: func(ctx context.Context, m fleet.Member) (*fleet.Summary, error) {
			var answer fleet.Answer
			err := client.Summary(ctx, api.Target{LoadBalancer: m.Name, URL: m.URL, Registered: true}, &answer)
			if err == nil && answer.LoadBalancer != m.Name {
				err = fmt.Errorf("the load balancer %s answers there", catalog.Printable(answer.LoadBalancer))
			}
			told.tell(log, m, err)
			if err != nil {
				return nil, errNoSidecar
			}
			return (*fleet.Summary)(&answer), nil
		},
	}, nil
}

// toldOnce logs why a sidecar can't be asked, once until it can be.
type toldOnce struct {
	mu   sync.Mutex
	told map[fleet.Member]bool
}

func (t *toldOnce) tell(log hclog.Logger, m fleet.Member, err error) {
	const most = 1000 // then all is logged again
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		delete(t.told, m)
	case !t.told[m]:
		if t.told == nil || len(t.told) >= most {
			t.told = map[fleet.Member]bool{}
		}
		t.told[m] = true
		log.Warn("load balancer's sidecar not reached", "load_balancer", catalog.Printable(m.Name), "url", m.URL, "error", err)
	}
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
			if e.Rejected != nil {
				m.Problem += ": " + e.Rejected.Error()
			}
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

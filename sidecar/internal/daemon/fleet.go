package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
)

// IsGone reports whether a sidecar has stopped in order and its HAProxy has gone as
// well.
func IsGone(e consul.ReportEntry) bool {
	return !e.Sidecar.Stopped.IsZero() && e.Health == catalog.Critical
}

// errNoSidecar is all that is shown of a registered address that is of no use. Anybody may
// register one, and would learn which ports are open where he can't reach; the log
// has the reason.
var errNoSidecar = errors.New("no answer within 2s from a sidecar of this name; the log of the sidecar that asked has the reason")

// sidecars are those that are registered in Consul as this one is. The token goes to
// them only over TLS and with api.tls.ca_file.
type sidecars struct {
	service string // that they are registered as
	reader  *consul.Reader
	client  *sidecarapi.Client
	rules   func() consul.Addresses
	told    loggedOnce
	log     hclog.Logger
}

func newSidecars(cfg config.Config, rules func() consul.Addresses, log hclog.Logger) (*sidecars, error) {
	s := cfg.API
	reader, errReader := consul.NewReader(ConsulOptions(cfg, hclog.NewNullLogger()))
	client, errClient := Credentials{
		Token: s.Token.Reveal(), TokenFile: s.TokenFile,
		CaFile: s.TLS.CAFile, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile,
	}.Client()
	if err := errors.Join(errReader, errClient); err != nil {
		return nil, err
	}
	return &sidecars{service: s.Service, reader: reader, client: client, rules: rules, log: log}, nil
}

func (s *sidecars) members(ctx context.Context) ([]fleet.Member, error) {
	if s.service == "" {
		return nil, errors.New("api.service is empty: sidecars do not register")
	}
	report, err := s.reader.Judged(ctx, s.service, s.rules())
	if err != nil {
		return nil, err
	}
	return members(report), nil
}

// ask asks one of them. Why it cannot be asked goes to the log only.
func (s *sidecars) ask(m fleet.Member, do func(*sidecarapi.Client, sidecarapi.Target) error) error {
	err := do(s.client, sidecarapi.Target{LoadBalancer: m.Name, URL: m.URL, Registered: true})
	s.told.tell(s.log, m, WithTokenHint(err, "api.tls.ca_file"))
	if err != nil {
		return errNoSidecar
	}
	return nil
}

// newGatherer looks at all load balancers.
func newGatherer(cfg config.Config, all *sidecars, own func() fleet.Summary) *fleet.Gatherer {
	return &fleet.Gatherer{
		Name: cfg.Name, Own: own, Members: all.members,
		Ask: func(ctx context.Context, m fleet.Member) (*fleet.Summary, error) {
			var answer fleet.Answer
			err := all.ask(m, func(c *sidecarapi.Client, to sidecarapi.Target) error {
				err := c.Summary(ctx, to, &answer)
				if err == nil && answer.LoadBalancer != m.Name {
					err = fmt.Errorf("the load balancer %s answers there", catalog.Printable(answer.LoadBalancer))
				}
				return err
			})
			if err != nil {
				return nil, err
			}
			return (*fleet.Summary)(&answer), nil
		},
	}
}

// loggedOnce logs why a sidecar can't be asked, once until it can be.
type loggedOnce struct {
	mu   sync.Mutex
	told map[fleet.Member]bool
}

func (t *loggedOnce) tell(log hclog.Logger, m fleet.Member, err error) {
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
		case IsGone(e):
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

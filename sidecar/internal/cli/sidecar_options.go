package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
)

// sidecarOptions is how a command that runs anywhere finds and asks the sidecars.
type sidecarOptions struct {
	sidecars      string
	loadBalancers int
	without       []string
	at            []string

	tokenFile, caFile, certFile, keyFile string
}

func (o *sidecarOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.sidecars, "sidecars", "", "service under which sidecars are registered (default: setting api.service)")
	f.IntVar(&o.loadBalancers, "load-balancers", 0, "least number of registered load balancers; fewer is an error (default: 1)")
	f.StringSliceVar(&o.without, "without", nil, "name of a load balancer to ignore, such as a dead one; may be repeated")
	f.StringSliceVar(&o.at, "load-balancer", nil, "NAME=ADDRESS: host:port or URL of a load balancer's sidecar, instead of its registered address; may be repeated")
	f.StringVar(&o.tokenFile, "sidecar-token-file", "", "file with the bearer token for the sidecars' API; sent only over TLS, with a CA file, or to an address of --load-balancer")
	f.StringVar(&o.caFile, "sidecar-ca-file", "", "PEM file with the authorities of the sidecars' certificates; requires TLS on every sidecar")
	f.StringVar(&o.certFile, "sidecar-cert-file", "", "PEM file with the client certificate for the sidecars' API")
	f.StringVar(&o.keyFile, "sidecar-key-file", "", "PEM file with the client certificate's key")
}

// reach finds the ways to Consul and to the sidecars that route a service.
func (o *sidecarOptions) reach(cfg config.Config, env Env, service string) (*deployCatalog, deployBalancers, error) {
	sidecars := cmp.Or(o.sidecars, cfg.API.Service)
	var errSidecars error
	if sidecars == "" {
		errSidecars = errors.New("--sidecars: required, because api.service is empty")
	}
	at, errAt := parseAt(o.at)
	client, errClient := o.credentials(env).Client()
	all, errCatalog := newDeployCatalog(daemon.ConsulOptions(cfg, hclog.NewNullLogger()), service, sidecars, at)
	return all, deployBalancers{client, service, at}, errors.Join(errAt, errClient, errCatalog, errSidecars)
}

// parseAt reads the addresses that stand in for registered ones, by the load
// balancer's name.
func parseAt(list []string) (map[string]string, error) {
	at := map[string]string{}
	var errs []error
	for _, text := range list {
		name, address, found := strings.Cut(text, "=")
		if !found || name == "" || address == "" {
			errs = append(errs, fmt.Errorf("--load-balancer %q: want NAME=ADDRESS", text))
			continue
		}
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		at[name] = address
	}
	return at, errors.Join(errs...)
}

// sidecarVariable begins the variables that stand for flags of deploy.
const sidecarVariable = "DEPLOY_SIDECAR_"

// credentials are shown to sidecars. A flag wins over its variable.
func (o *sidecarOptions) credentials(env Env) daemon.Credentials {
	file := func(flag, suffix string) string {
		for _, e := range env.Environ {
			if value, found := strings.CutPrefix(e, sidecarVariable+suffix+"="); found && flag == "" {
				return value
			}
		}
		return flag
	}
	return daemon.Credentials{
		TokenFile: file(o.tokenFile, "TOKEN_FILE"), CaFile: file(o.caFile, "CA_FILE"),
		CertFile: file(o.certFile, "CERT_FILE"), KeyFile: file(o.keyFile, "KEY_FILE"),
	}
}

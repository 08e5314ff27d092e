package discover

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/zap"
)

// Config says what to follow.
type Config struct {
	Consul  *api.Config // how to reach Consul
	Service string      // the service's name
	Path    string      // of the targets' URLs: begins with '/', and may have a query

	Logger *zap.Logger // nil: none
}

const (
	// wait is how long Consul may hold a query. Should the index come from
	// another Consul than the one that is asked, which the connection does not
	// tell, the longest time without an answer.
	wait = 30 * time.Second
	// limit bounds one query: Consul adds up to a sixteenth to its wait (API
	// documentation, "Blocking Queries"), and holds one for some seconds while
	// there is no leader.
	limit = wait + wait/16 + 10*time.Second
	// pace is the least time from one query to the next, so that a service whose
	// index never rests does not make a busy loop.
	pace = 50 * time.Millisecond
)

// New checks the configuration and asks nothing yet.
func New(c Config) (*Watch, error) {
	var errs []error
	if c.Service == "" {
		errs = append(errs, errors.New("discover: no service is given"))
	}
	path, err := url.ParseRequestURI(c.Path)
	if err != nil || !strings.HasPrefix(c.Path, "/") || path.Host != "" {
		errs = append(errs, fmt.Errorf("discover: path %q: must begin with '/'", c.Path))
	}
	// A connection for each query. net/http sends a GET again, unasked, where a
	// connection that it had kept breaks before the answer; a Consul that has
	// lost its memory would hold it for the whole wait, because of its index.
	// The transport is the caller's own: a clone would already have TLS settings,
	// and NewClient would leave the certificates of consul.TLSConfig out.
	consul := *c.Consul
	if consul.Transport != nil {
		consul.Transport.DisableKeepAlives = true
	}
	client, err := api.NewClient(&consul)
	if err != nil {
		errs = append(errs, fmt.Errorf("discover: consul: %w", err))
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Watch{config: c, path: path, health: client.Health(), log: c.Logger.With(zap.String("service", c.Service))}, nil
}

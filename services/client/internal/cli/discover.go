package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/hashicorp/consul/api"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/pointsman/pointsman/services/client/internal/discover"
	"github.com/pointsman/pointsman/services/client/internal/load"
	"github.com/pointsman/pointsman/services/internal/command"
)

// checkDiscover returns one error for each setting of --discover that is wrong.
func (s *settings) checkDiscover(flags *pflag.FlagSet) error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, s.named(flags, flag, fmt.Errorf(format, args...)))
	}
	if s.discover == "" {
		for _, flag := range []string{"consul", "path", "discover-wait"} {
			// Not the environment: CLIENT_CONSUL may be there for all clients.
			if flags.Lookup(flag).Changed {
				bad(flag, "%q: requires --discover", flags.Lookup(flag).Value)
			}
		}
		return errors.Join(errs...)
	}
	if len(s.targets) > 0 {
		bad("discover", "%q: cannot be used together with --target", s.discover)
	}
	if u, err := url.ParseRequestURI(s.path); err != nil || u.Host != "" || u.Scheme != "" {
		bad("path", "%q: must be a path that begins with '/'", s.path)
	}
	if s.discoverWait <= 0 {
		bad("discover-wait", "%s: must be above 0", s.discoverWait)
	}
	return errors.Join(errs...)
}

// find waits for the first targets, where they are to be found in Consul, and
// puts them into the configuration. The Watch is nil where they are not.
func (s *settings) find(ctx context.Context, flags *pflag.FlagSet, log *zap.Logger, config *load.Config) (*discover.Watch, error) {
	if s.discover == "" {
		return nil, nil
	}
	consul := api.DefaultConfig() // reads the environment, as the help says
	if s.consul != "" {
		consul.Address = s.consul
	}
	watch, err := discover.New(discover.Config{Consul: consul, Service: s.discover, Path: s.path, Logger: log.Named("discover")})
	if err != nil {
		return nil, command.Usage(err)
	}
	bounded, cancel := context.WithTimeoutCause(ctx, s.discoverWait, fmt.Errorf("waited for %s", s.discoverWait))
	defer cancel()
	config.Targets, err = watch.First(bounded)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no request was made: %w", context.Cause(ctx))
	case err != nil:
		return nil, command.Usage(s.named(flags, "discover", fmt.Errorf("%q: there is no target: %w", s.discover, err)))
	}
	return watch, nil
}

// follow keeps the engine's targets up to date until ctx ends; the channel is
// closed once it has.
func follow(ctx context.Context, watch *discover.Watch, engine *load.Load, log *zap.Logger) <-chan struct{} {
	done := make(chan struct{})
	if watch == nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		watch.Run(ctx, func(targets []*url.URL) {
			if err := engine.SetTargets(targets); err != nil {
				log.Error("keeping current targets", zap.Error(err))
			}
		})
	}()
	return done
}

func texts(urls []*url.URL) []string {
	out := make([]string, 0, len(urls))
	for _, u := range urls {
		out = append(out, u.String())
	}
	return out
}

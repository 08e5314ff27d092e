package registrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// callTimeout bounds every call to the agent. It is on the same machine as a
// rule, and answers within milliseconds.
const callTimeout = 3 * time.Second

// ErrLeft is the error of a Register or Leave after leaving has begun.
var ErrLeft = errors.New("registrator: leaving has begun")

// Registration is one service of one program in Consul. Its methods may be
// called by any number of goroutines.
type Registration struct {
	config Config
	agent  *api.Agent
	health *api.Health
	http   *http.Client
	log    hclog.Logger
	wait   drainWait
	asked  *agentCheck

	// writing has a value during a call that changes the registration, so that
	// two never overtake each other on their way to the agent.
	writing chan struct{}

	mu         sync.Mutex
	since      time.Time // of the first call that registers, or the last that restores; zero before
	taken      bool      // another process has registered under the ID, when the watchdog last looked
	sent       bool      // a call was sent: Consul may know the service, though the call failed
	registered bool      // a call has succeeded
	leaving    bool      // nothing registers any more
	closed     bool

	watchdog   loop
	heartbeats loop
	seen       seen // by the watchdog
}

// New checks the configuration and sends nothing. The error joins all that is
// wrong with it.
func New(c Config) (*Registration, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	consul := api.DefaultConfig()
	if c.Consul != nil {
		copied := *c.Consul
		consul = &copied
	}
	client, err := api.NewClient(consul)
	if err != nil {
		return nil, fmt.Errorf("registrator: consul: %w", err)
	}
	r := &Registration{
		config: c,
		agent:  client.Agent(),
		health: client.Health(),
		http:   consul.HttpClient, // NewClient has put it there
		log:    c.Logger.With("service", c.Service, "id", c.ID),
		wait:   boundedWait{c.LeaveWait},
		asked:  newAgentCheck(c),

		writing: make(chan struct{}, 1),
	}
	if !c.Sidecars.Off {
		r.wait = &handshake{
			boundedWait: boundedWait{c.LeaveWait}, asked: r.asked,
			service: c.Service, id: c.ID, sidecars: c.Sidecars,
			health: client.Health(), dial: new(net.Dialer).DialContext, tell: c.OnDrain, log: r.log,
		}
	}
	return r, nil
}

// ID is the service ID in Consul.
func (r *Registration) ID() string { return r.config.ID }

// SetChecks replaces the checks. It is for a program that finds out where it
// listens only once it does, and fails once Register has been called.
func (r *Registration) SetChecks(checks []Check) error {
	checks, err := checkAll(checks)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent || r.leaving {
		return fmt.Errorf("registrator: checks of %q: already registered or leaving", r.config.ID)
	}
	r.config.Checks = checks
	return nil
}

// Register tells Consul that the program is ready to serve: service and checks
// in one call, passing. It tries until it succeeds or ctx ends, since the agent
// may start at the same time; give it a deadline. It then keeps the
// registration alive until Leave or Close: the watchdog registers again if the
// agent forgot, with the checks critical that it has seen so, and TTL checks get
// their signs of life.
//
// It fails at once where the agent says that the registration is wrong, with
// ErrLeft after Leave, and if it has succeeded before.
func (r *Registration) Register(ctx context.Context) error {
	if err := r.mayRegister(); err != nil {
		return err
	}
	if err := r.asked.listen(ctx); err != nil {
		return fmt.Errorf("registrator: register %q: %w", r.config.ID, err)
	}
	if err := retry(ctx, r.register, func(err error) { r.log.Warn("registration failed, retrying", "error", err) }); err != nil {
		return fmt.Errorf("registrator: register %q: %w", r.config.ID, err)
	}
	fields := []any{"port", r.config.Port}
	if r.config.Version != "" {
		fields = append(fields, "version", r.config.Version)
	}
	r.log.Info("registered", fields...)
	return r.start()
}

// start begins what keeps the registration alive.
func (r *Registration) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.registered = true
	switch {
	case r.leaving:
		return ErrLeft // and Leave takes the registration away
	case r.closed:
		return nil
	}
	r.watchdog.start(r.config.Watchdog, (&watchdog{r: r, exclusive: exclusive{r: r}}).look)
	if beats := (&ttlKeeper{r: r}); beats.period() > 0 {
		r.heartbeats.start(beats.period(), beats.beat)
	}
	return nil
}

// register makes the registration as it is while the program stays. It does
// nothing once leaving has begun.
func (r *Registration) register(ctx context.Context) error {
	return r.write(ctx, func(ctx context.Context) error {
		r.mu.Lock()
		leaving := r.leaving
		r.sent = r.sent || !leaving
		if r.since.IsZero() {
			r.since = time.Now()
		}
		r.mu.Unlock()
		if leaving {
			return ErrLeft
		}
		r.logReplaced(ctx)
		return r.put(ctx, time.Time{})
	})
}

// write makes one call that changes the registration, after those that are on
// their way.
func (r *Registration) write(ctx context.Context, call func(context.Context) error) error {
	select {
	case r.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("another call in progress: %w", context.Cause(ctx))
	}
	defer func() { <-r.writing }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx)
}

// meta is what the registration says in Consul.
func (r *Registration) meta(leaving time.Time) map[string]string {
	meta := maps.Clone(r.config.Meta)
	if meta == nil {
		meta = make(map[string]string)
	}
	maps.Copy(meta, r.config.said(leaving).Format())
	maps.Copy(meta, r.owner().Format())
	return meta
}

// put sends the registration. Only write calls it.
func (r *Registration) put(ctx context.Context, leaving time.Time) error {
	c, meta := r.config, r.meta(leaving)
	service := &api.AgentServiceRegistration{
		ID: c.ID, Name: c.Service, Address: c.Address, Port: c.Port, Tags: c.Tags, Meta: meta,
	}
	if c.Weights != (api.AgentWeights{}) {
		service.Weights = &c.Weights
	}
	for _, check := range c.Checks {
		d := check.definition(c.ID)
		if r.seen.isCritical(d.CheckID) {
			d.Status = api.HealthCritical
		}
		service.Checks = append(service.Checks, d)
	}
	options := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)
	return r.agent.ServiceRegisterOpts(service, options)
}

// Close ends what keeps the registration alive, and leaves the registration
// itself as it is: for a program that must end at once, or that hands its
// registration over. After Leave it does nothing. It waits for calls that are
// on their way.
func (r *Registration) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.watchdog.stop()
	r.heartbeats.stop()
	r.asked.close()
	r.http.CloseIdleConnections()
}

func (r *Registration) mayRegister() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.leaving:
		return ErrLeft
	case r.registered:
		return fmt.Errorf("registrator: register %q: already registered", r.config.ID)
	}
	return nil
}

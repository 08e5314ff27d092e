package cli

import (
	"context"
	"reflect"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// balancer keeps this load balancer registered in Consul, for clients to find.
//
// It registers while HAProxy answers, and never takes the registration away:
// HAProxy outlives the sidecar, and it is HAProxy that Consul's check asks. A
// HAProxy that is gone for good is forgotten by Consul (deregister_after), and
// registered again by whoever sees it answer again.
type balancer struct {
	consul  *api.Config
	running func() bool // HAProxy answers
	reach   func(ctx context.Context, setting, last string) (string, error)
	log     hclog.Logger
	changed chan config.Config // room for one, the newest

	// The rest belongs to the goroutine of run.
	cfg     config.Config
	entry   entry     // the newest that could be made
	asked   time.Time // when it was
	trouble string    // why it could not be made, as logged
}

const (
	// balancerLook is how often HAProxy's coming and going is looked at.
	balancerLook = 200 * time.Millisecond
	// balancerReach is how often it is found out where clients reach HAProxy: a
	// container that is replaced may get another address.
	balancerReach = 2 * time.Second
	// balancerAgain is how long a registration waits that Consul has called
	// wrong. All other failures are tried again by the registrator.
	balancerAgain = 10 * time.Second
)

func newBalancer(cfg config.Config, running func() bool, log hclog.Logger) (*balancer, error) {
	consul, err := consulOptions(cfg, log).API()
	if err != nil {
		return nil, err
	}
	at := cfg.Consul.Address
	return &balancer{
		consul: consul, running: running, log: log, cfg: cfg, changed: make(chan config.Config, 1),
		reach: func(ctx context.Context, setting, last string) (string, error) { return reach(ctx, setting, at, last) },
	}, nil
}

// reconfigure goes on with other settings. It never blocks; only one goroutine
// may call it.
func (b *balancer) reconfigure(cfg config.Config) {
	select {
	case <-b.changed: // an older one that was not taken yet
	default:
	}
	b.changed <- cfg
}

// run keeps it registered until ctx ends, and leaves the registration as it is.
func (b *balancer) run(ctx context.Context) error {
	look := time.NewTicker(balancerLook)
	defer look.Stop()
	var now registered
	defer func() { now.end() }()
	for {
		if want, wanted := b.want(ctx); !wanted {
			now.end()
			now = registered{}
		} else if !reflect.DeepEqual(want, now.entry) {
			now.end()
			now = b.register(ctx, want)
		}
		select {
		case <-ctx.Done():
			return nil
		case b.cfg = <-b.changed:
			b.asked = time.Time{}
		case <-look.C:
		}
	}
}

// want gives what is to be registered now, if anything is.
func (b *balancer) want(ctx context.Context) (entry, bool) {
	if b.cfg.Balancer.Service == "" || !b.running() {
		return entry{}, false
	}
	if time.Since(b.asked) >= balancerReach {
		b.asked = time.Now()
		address, err := b.reach(ctx, b.cfg.Balancer.Address, b.entry.Address)
		b.note(err)
		switch {
		case err == nil:
			b.entry = entryOf(b.cfg, address)
		case b.entry.Service != "":
			b.entry = entryOf(b.cfg, b.entry.Address) // what is known stays
		}
	}
	return b.entry, b.entry.Service != ""
}

// note logs when it is no longer known where clients reach HAProxy, and when it
// is again.
func (b *balancer) note(err error) {
	switch {
	case err != nil && b.trouble != err.Error():
		b.trouble = err.Error()
		b.log.Error("it cannot be found out where clients reach HAProxy; trying on", "setting", "balancer.address", "error", err)
	case err == nil && b.trouble != "":
		b.trouble = ""
		b.log.Info("it is known again where clients reach HAProxy")
	}
}

// registered is a registration that is kept alive, or the zero value.
type registered struct {
	entry  entry
	cancel context.CancelFunc
	done   chan struct{}
}

// end ends what keeps it alive, and leaves it in Consul.
func (r registered) end() {
	if r.cancel != nil {
		r.cancel()
		<-r.done
	}
}

// register keeps the entry registered until it is ended.
func (b *balancer) register(ctx context.Context, e entry) registered {
	ctx, cancel := context.WithCancel(ctx)
	r := registered{entry: e, cancel: cancel, done: make(chan struct{})}
	registration, err := registrator.New(e.config(b.consul, b.log))
	if err != nil {
		b.log.Error("this load balancer cannot be registered in Consul", "error", err)
		close(r.done)
		return r
	}
	go func() {
		defer close(r.done)
		defer registration.Close()
		for ctx.Err() == nil {
			if err := registration.Register(ctx); err == nil {
				<-ctx.Done()
			} else if ctx.Err() == nil {
				b.log.Error("Consul refuses to register this load balancer; trying on", "error", err, "again_in", balancerAgain)
				pause(ctx, balancerAgain)
			}
		}
	}()
	return r
}

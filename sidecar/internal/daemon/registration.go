package daemon

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// registration keeps one service registered in Consul for as long as it is
// wanted there: the load balancer, or the sidecar itself.
type registration struct {
	consul  *api.Config
	is      registrable
	reach   func(ctx context.Context, setting, last string) (string, error)
	log     hclog.Logger
	changed chan config.Config // room for one, the newest

	// The rest belongs to the goroutine of run.
	cfg     config.Config
	entry   entry     // the newest that could be made
	isMade  bool      // of cfg
	asked   time.Time // when it was
	trouble string    // why it could not be made, as logged
}

// registrable is what a registrant registers.
type registrable struct {
	setting string // where others reach it, by its key, for the log
	// wanted reports whether it is to be registered now.
	wanted func(config.Config) bool
	// at is where the settings say that others reach it: an address, a host's
	// name, or "" where that is to be found out.
	at func(config.Config) string
	// entry makes the registration. address "" is that of Consul's node.
	entry func(cfg config.Config, address string) entry
	// leaves is set where the registration goes when it is no longer wanted.
	leaves bool
	// record makes what stays registered when the sidecar stops; nil leaves the
	// registration as it is.
	record func(cfg config.Config, now entry) entry
}

const (
	// registrationLook is how often it is looked whether it is wanted.
	registrationLook = 200 * time.Millisecond
	// registrationReach is how often it is found out where others reach it: a
	// container that is replaced may get another address.
	registrationReach = 2 * time.Second
	// registrationAgain is how long a registration waits that Consul has called
	// wrong. All other failures are tried again by the registrator.
	registrationAgain = 10 * time.Second
	// stopTimeout bounds how long the sidecar's stop waits for Consul.
	stopTimeout = 2 * time.Second
)

func newRegistration(cfg config.Config, is registrable, log hclog.Logger) (*registration, error) {
	consul, err := ConsulOptions(cfg, log).API()
	if err != nil {
		return nil, err
	}
	at := cfg.Consul.Address
	return &registration{
		consul: consul, is: is, log: log, cfg: cfg, changed: make(chan config.Config, 1),
		reach: func(ctx context.Context, setting, last string) (string, error) {
			return addressOf(ctx, setting, at, last)
		},
	}, nil
}

// reconfigure goes on with other settings. It never blocks; only one goroutine
// may call it.
func (r *registration) reconfigure(cfg config.Config) {
	select {
	case <-r.changed: // an older one that was not taken yet
	default:
	}
	r.changed <- cfg
}

// run keeps it registered until ctx ends. Then it leaves its record, if there is
// one, and else the registration as it is.
func (r *registration) run(ctx context.Context) error {
	look := time.NewTicker(registrationLook)
	defer look.Stop()
	var now registered
	defer func() {
		now.end()
		if r.is.record != nil && now.entry.ID != "" {
			r.leave(context.WithoutCancel(ctx), r.is.record(r.cfg, now.entry))
		}
	}()
	for {
		if want, wanted := r.want(ctx); !wanted {
			now.end()
			if r.is.leaves && now.entry.ID != "" {
				r.deregister(ctx, now.entry)
			}
			now = registered{}
		} else if !reflect.DeepEqual(want, now.entry) {
			now.end()
			now = r.register(ctx, want)
		}
		select {
		case <-ctx.Done():
			return nil
		case r.cfg = <-r.changed:
			r.asked, r.isMade = time.Time{}, false
		case <-look.C:
		}
	}
}

// want returns what is to be registered now, if anything is.
func (r *registration) want(ctx context.Context) (entry, bool) {
	if !r.is.wanted(r.cfg) {
		return entry{}, false
	}
	if time.Since(r.asked) >= registrationReach {
		r.asked = time.Now()
		address, err := r.reach(ctx, r.is.at(r.cfg), r.entry.Address)
		r.note(err)
		if err != nil {
			address = r.entry.Address // what is known stays
		}
		isKnown := err == nil || r.entry.Service != ""
		if isKnown && (!r.isMade || address != r.entry.Address) {
			r.entry, r.isMade = r.is.entry(r.cfg, address), true
		}
	}
	return r.entry, r.entry.Service != ""
}

// note logs when it is no longer known where others reach it, and when it is
// again.
func (r *registration) note(err error) {
	switch {
	case err != nil && r.trouble != err.Error():
		r.trouble = err.Error()
		r.log.Error("cannot determine advertise address, retrying", "setting", r.is.setting, "error", err)
	case err == nil && r.trouble != "":
		r.trouble = ""
		r.log.Info("advertise address determined again")
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
func (r *registration) register(ctx context.Context, e entry) registered {
	ctx, cancel := context.WithCancel(ctx)
	now := registered{entry: e, cancel: cancel, done: make(chan struct{})}
	registration, err := registrator.New(e.config(r.consul, r.log))
	if err != nil {
		r.log.Error("registration invalid", "service", e.Service, "error", err)
		close(now.done)
		return now
	}
	go func() {
		defer close(now.done)
		defer registration.Close()
		for ctx.Err() == nil {
			if err := registration.Register(ctx); err == nil {
				<-ctx.Done()
			} else if ctx.Err() == nil {
				r.log.Error("Consul refused registration, retrying", "service", e.Service, "error", err, "again_in", registrationAgain)
				Sleep(ctx, registrationAgain)
			}
		}
	}()
	return now
}

// isAnothers reports whether another process is registered under the entry's ID:
// its registration is not to be replaced or removed. Where Consul cannot be
// asked, it is this process's.
func (r *registration) isAnothers(ctx context.Context, e entry) bool {
	client, err := api.NewClient(r.consul)
	if err != nil {
		return false
	}
	now, _, err := client.Agent().Service(e.ID, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil || now == nil {
		return false
	}
	owner := contract.ParseOwner(now.Meta).Token
	if owner == "" || owner == registrator.ProcessOwner() {
		return false
	}
	r.log.Warn("another process is registered under this ID, its registration stays", "id", e.ID, "address", now.Address, "port", now.Port)
	return true
}

// leave registers what stays of the entry. Where that fails, the entry itself
// stays, and its check turns critical.
func (r *registration) leave(ctx context.Context, record entry) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if r.isAnothers(ctx, record) {
		return
	}
	registration, err := registrator.New(record.config(r.consul, hclog.NewNullLogger()))
	if err == nil {
		err = registration.Register(ctx)
		registration.Close()
	}
	if err != nil {
		r.log.Warn("registration of running HAProxy failed", "id", record.ID, "error", err)
		return
	}
	r.log.Info("registered as stopped with HAProxy running", "service", record.Service, "id", record.ID)
}

// deregister takes the entry out of Consul. It tries once: what stays turns
// critical, and Consul forgets it.
func (r *registration) deregister(ctx context.Context, e entry) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if r.isAnothers(ctx, e) {
		return
	}
	client, err := api.NewClient(r.consul)
	if err == nil {
		err = client.Agent().ServiceDeregisterOpts(e.ID, (&api.QueryOptions{}).WithContext(ctx))
	}
	if refused, ok := errors.AsType[api.StatusError](err); ok && refused.Code == 404 {
		err = nil // Consul does not know it
	}
	if err != nil {
		r.log.Warn("deregistration failed", "id", e.ID, "error", err)
		return
	}
	r.log.Info("deregistered", "service", e.Service, "id", e.ID)
}

// entry is a service as Consul has it.
type entry struct {
	Service, ID string
	Address     string // "" is that of Consul's node
	Port        int
	Tags        []string
	Meta        map[string]string
	Checks      []registrator.Check
}

// config is the entry in the registrator's words.
func (e entry) config(consul *api.Config, log hclog.Logger) registrator.Config {
	return registrator.Config{
		Consul:  consul,
		Service: e.Service, ID: e.ID, Address: e.Address, Port: e.Port, Tags: e.Tags, Meta: e.Meta,
		Checks: e.Checks,
		// The lock of haproxy.cfg says that the name is this sidecar's. A
		// registration of another makes leaving nodes ask that one.
		Exclusive: true, Watchdog: time.Second,
		Logger: log,
	}
}

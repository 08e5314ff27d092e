package consul

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Source watches services and keeps what is known of them. Its methods may be
// called at any time, by any number of goroutines.
type Source struct {
	client  *client
	own     *ownNode
	options Options
	log     hclog.Logger

	changed chan struct{} // one value: snapshot has changed
	claimed chan struct{} // one value: so have the claims of a service
	asked   chan struct{} // one value: wanted has changed

	mu        sync.Mutex
	otherWait time.Duration // a constant, except in tests
	running   bool
	services  map[string]Service  // that are wanted, by backend
	backends  map[string][]string // of them, by service
	watches   map[origin]*watch   // one for each goroutine that may publish
	parts     map[origin]part     // what each of them knows
	merged    map[string][]merged // by backend, of services in several datacenters; sorted
	merges    uint64
	health    map[string]catalog.SourceHealth // by backend
	changes   catalog.Changes                 // of Health.Changed
	snapshot  catalog.Snapshot
}

// New checks the options and the services, reads the TLS files, and starts
// nothing. The error joins all that is wrong.
func New(o Options, services []Service) (*Source, error) {
	c, o, err := newClient(o)
	services, bad := checkServices(services)
	if err := errors.Join(err, bad); err != nil {
		return nil, err
	}
	return &Source{
		client:    c,
		own:       &ownNode{client: c},
		options:   o,
		log:       o.Logger,
		changed:   make(chan struct{}, 1),
		claimed:   make(chan struct{}, 1),
		asked:     make(chan struct{}, 1),
		otherWait: otherWait,
		services:  byBackend(services),
		backends:  backendsOf(services),
		watches:   make(map[origin]*watch),
		parts:     make(map[origin]part),
		merged:    make(map[string][]merged),
		health:    make(map[string]catalog.SourceHealth),
	}, nil
}

// Snapshot returns all that is known now. A service that has had no answer yet
// is not in it.
func (s *Source) Snapshot() catalog.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

// Health tells how the queries for one backend go. It is zero for one that is
// not watched.
func (s *Source) Health(backend string) catalog.SourceHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health[backend]
}

// News calls a function with each backend of which Health.Changed is another since the call
// that returned seen, and returns what is to be given next time. 0 is all that have changed.
func (s *Source) News(seen uint64, each func(backend string, changed time.Time)) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes.Since(seen, func(backend string) { each(backend, s.health[backend].Changed) })
}

// OldestHealth tells how the queries about one service of Consul's go: of its
// backends, the one whose last answer is oldest.
func (s *Source) OldestHealth(service string) (oldest catalog.SourceHealth) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, backend := range s.backends[service] {
		if h := s.health[backend]; i == 0 || h.Answered.Before(oldest.Answered) {
			oldest = h
		}
	}
	return oldest
}

// Changed gets a value after Snapshot has changed in more than an index and claims; one
// value may stand for several changes. Nor are these a change in Health: what HAProxy is to
// run of a service does not depend on them.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// Wake gives Changed a value, for one who lays something over the Snapshot.
func (s *Source) Wake() { notify(s.changed) }

// Claimed gets a value after the Claims of a service have changed, or there was a first
// answer about one.
func (s *Source) Claimed() <-chan struct{} { return s.claimed }

// SetServices changes what is watched, and returns at once. What is known of a
// service that stays is kept, and its query goes on undisturbed unless its tags
// or filter differ. What is known of one that goes is forgotten. An error means
// that nothing has changed.
func (s *Source) SetServices(services []Service) error {
	services, err := checkServices(services)
	if err != nil {
		return err
	}
	s.mu.Lock()
	before := s.services
	s.services, s.backends = byBackend(services), backendsOf(services)
	for backend, service := range s.services {
		if was, stays := before[backend]; stays && !slices.Equal(was.Datacenters, service.Datacenters) {
			s.reorder(service)
		}
	}
	s.mu.Unlock()
	notify(s.asked)
	return nil
}

// Run watches until ctx ends, and returns its cause. By then no goroutine and
// no connection of it is left. What is known stays. It runs once at a time.
func (s *Source) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("consul: already running")
	}
	s.running = true
	s.mu.Unlock()

	var watches sync.WaitGroup
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running = false
	}()
	defer s.client.close()
	defer watches.Wait()
	defer s.stop()
	for {
		s.reconcile(ctx, &watches)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.asked:
		}
	}
}

// reconcile ends the watches that are not wanted any more and starts those that
// are.
func (s *Source) reconcile(ctx context.Context, watches *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[origin]Service, len(s.services))
	for _, service := range s.services {
		for _, one := range service.each() {
			wanted[one.origin()] = one
		}
	}
	for at, w := range s.watches {
		service, stays := wanted[at]
		if stays && service.asksLike(w.service) {
			if slices.Equal(service.Addresses.Own, w.own) {
				continue
			}
			if w.own = service.Addresses.Own; service.Addresses.judgesAlike(s.parts[at].Service) && !w.refusesPort.Load() {
				continue
			}
		}
		w.cancel()
		delete(s.watches, at)
	}
	s.forget(wanted)
	for at, service := range wanted {
		if s.watches[at] == nil {
			ctx, cancel := context.WithCancel(ctx)
			w := &watch{service: service, own: service.Addresses.Own, source: s, decoder: newDecoder(service.Tags), log: service.log(s.log), cancel: cancel}
			w.decoder.claims = service.Claims
			if service.isBackup {
				w.late = time.AfterFunc(s.otherWait, w.goOnWithout)
			}
			if service.Resolve {
				w.names, w.unknown = &names{lookup: s.options.Lookup, log: w.log}, make(chan struct{}, 1)
			}
			s.watches[at] = w
			watches.Go(func() { w.run(ctx) })
		}
	}
}

// forget drops what is known of services that are not wanted. The caller holds
// mu.
func (s *Source) forget(wanted map[origin]Service) {
	var keep []catalog.Service
	all := s.snapshot.Services()
	for _, known := range all {
		if _, ok := s.services[known.Name]; ok {
			keep = append(keep, known)
		}
	}
	for name := range s.health {
		if _, ok := s.services[name]; !ok {
			delete(s.health, name)
			s.changes.Forget(name)
			delete(s.merged, name)
		}
	}
	for at := range s.parts {
		if _, ok := wanted[at]; !ok {
			delete(s.parts, at)
		}
	}
	if len(keep) < len(all) {
		s.snapshot = catalog.NewSnapshot(keep...)
		notify(s.changed)
	}
}

func (s *Source) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, w := range s.watches {
		w.cancel()
		delete(s.watches, at)
	}
}

func byBackend(services []Service) map[string]Service {
	out := make(map[string]Service, len(services))
	for _, s := range services {
		out[s.Backend] = s
	}
	return out
}

func backendsOf(services []Service) map[string][]string {
	out := make(map[string][]string, len(services))
	for _, s := range services {
		out[s.Name] = append(out[s.Name], s.Backend)
	}
	return out
}

// notify leaves a value in a channel that has room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

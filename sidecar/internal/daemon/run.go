package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/flight"
	"github.com/pointsman/pointsman/sidecar/internal/metrics"
	"github.com/pointsman/pointsman/sidecar/internal/pause"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/sidecar/internal/trace"
)

// Daemon is the running sidecar.
type Daemon struct {
	started config.Config // the settings at the start
	cfg     config.Config
	render  *render.Renderer // of the settings at the start
	file    *render.File
	log     hclog.Logger
	source  *consul.Source
	catalog *rollout.Overlay // over source
	mover   *rollout.Mover
	agent   *reconcile.Agent
	status  *api.Server
	hosts   atomic.Pointer[[]string]                             // by which the API may be called
	actions atomic.Pointer[func(*reconcile.State) []ActionState] // of the API, for the page
	limit   atomic.Int64                                         // for one round of the agent's loop, a time.Duration

	members  atomic.Pointer[consul.Addresses]  // where other sidecars may be
	pausable atomic.Pointer[map[string]string] // services that may be paused, by backend: of set, without mu
	others   *sidecars
	haproxy  Proxy
	counters api.Counters

	systemd notifier

	mu     sync.Mutex // of what changes after the start: cfg, peers, found, newest, set, pauses
	peers  []render.Peer
	found  route.Found
	newest *render.Renderer // of the settings of now
	set    reconcile.Settings
	finder *finder
	pauses pauseKeeper

	options Options
	decided *flight.Recorder

	certificates *certificates
	traces       *trace.Exporter // nil: nothing is traced

	balancer *registration // the load balancer in Consul
	self     *registration // and the sidecar
}

// Options is what a daemon needs beside its settings.
type Options struct {
	Adopt   bool     // a HAProxy that serves what another program wrote is taken over
	Environ []string // for OpenTelemetry's variables
	Log     io.Writer
	Version string
	Reload  func() (config.Config, error) // reads the settings again
	Exit    func(code int)                // ends the process, at a second signal
}

// NewLogger returns the sidecar's own.
func NewLogger(cfg config.Config, to io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "sidecar", Level: hclog.LevelFromString(cfg.Log.Level), Output: to,
		JSONFormat: cfg.Log.Format == config.LogJSON,
	}).With("lb", cfg.Name)
}

// New puts a sidecar together. Nothing of it runs yet; errors are of settings, files and the
// way to HAProxy.
func New(ctx context.Context, cfg config.Config, o Options) (*Daemon, error) {
	cfg, found, r, err := atStart(ctx, cfg)
	if err != nil {
		return nil, err
	}
	whole := cfg.With(found)
	d := &Daemon{pauses: pauseKeeper{known: savedPauses(cfg), change: make(chan struct{}, 1)}, started: cfg, cfg: cfg, render: r, log: NewLogger(cfg, o.Log), peers: savedPeers(cfg), found: found, options: o, decided: flight.NewRecorder(time.Now)}
	d.use(d.withPauses(r, asHeard(settings(whole, r), route.Unheard{})))
	if d.file, err = NewFile(cfg); err != nil {
		return nil, err
	}
	if d.source, err = newSource(whole, ownListeners(cfg, r, nil), d.log.Named("consul")); err != nil {
		return nil, err
	}
	if d.catalog, err = newOverlay(whole, d.source, d.log.Named("rollout")); err != nil {
		return nil, err
	}
	d.finder = newFinder(d.source, d.log.Named("discovery"))
	registry := prometheus.NewRegistry()
	m, err := metrics.New(registry, metrics.Options{
		Version: o.Version, Phases: phases(), Invariants: invariants(), Health: d.source.OldestHealth, Now: time.Now,
		Certificates: func() ([]metrics.Certificate, int) { return d.certificates.expiry() },
	})
	if err != nil {
		return nil, err
	}
	p, err := NewProxy(cfg, d.log.Named("haproxy"), m.Command)
	if err != nil {
		return nil, err
	}
	p.gate = &gate{render: r, base: cfg.HAProxy.BaseConfig, file: cfg.HAProxy.Config, own: ownershipOf(cfg, r), open: o.Adopt, takes: o.Adopt}
	d.certificates = newCertificates(whileRunning(p.Ask), func() int { return d.agent.State().HAProxy.PID }, d.log.Named("certificates"))
	happened := event.NewLog(time.Now())
	watched := reconcile.NewInvariantWatch(time.Now, func(i reconcile.Invariant, what string) {
		m.Violation(string(i))
		d.log.Error("invariant violated", "invariant", i, "what", what)
	})
	var next reconcile.Recorder = &recorder{Recorder: m, invariants: watched}
	if d.traces = newTraces(o.Environ, o.Version, cfg.Name, d.log.Named("traces")); d.traces != nil {
		next = trace.NewRecorder(next, time.Now, d.traces.Send)
	}
	d.agent, err = reconcile.New(reconcile.Options{
		Name: cfg.Name, Version: o.Version, Catalog: d.catalog, RolloutsError: d.catalog.Err, HAProxy: p, Maps: p, File: d.file, Drains: NewStateFile(cfg), OldWorkersMemory: p.OldWorkersMemory,
		Settings: d.set, Recorder: event.NewRecorder(happened, next, time.Now), Decided: d.decided.Decided, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	d.haproxy = p
	if err := d.addRollouts(); err != nil {
		return nil, err
	}
	d.systemd.state, d.systemd.alive, d.systemd.log = d.agent.State, d.alive, d.log
	d.callable(cfg)
	d.limitRound(cfg)
	if d.status, err = d.newAPI(happened, watched, registry); err != nil {
		return nil, err
	}
	d.balancer, err = newRegistration(cfg, balancer(func() bool { return d.agent.State().HAProxy.Running }), d.log.Named("registration"))
	if err != nil {
		return nil, err
	}
	d.self, err = newRegistration(cfg, self(d.status.Addr), d.log.Named("self"))
	return d, err
}

// addRollouts adds what moves rollouts, and what it looks at: the counters of this load
// balancer and of the others.
func (d *Daemon) addRollouts() (err error) {
	if d.others, err = newSidecars(d.cfg, func() consul.Addresses { return *d.members.Load() }, d.log.Named("fleet")); err != nil {
		return err
	}
	d.counters = countersOf(d.agent.State, d.haproxy.Counters)
	judge := &canaryJudge{state: d.agent.State, read: allCounters(d.cfg.Name, d.counters, d.others), now: time.Now}
	d.mover, err = newMover(d.cfg, d.catalog, d.agent.State, d.isPaused, judge, d.log.Named("rollout"))
	return err
}

// atStart is the settings with what they have from elsewhere, and what they are rendered with
// while Consul has said nothing.
func atStart(ctx context.Context, cfg config.Config) (_ config.Config, found route.Found, r *render.Renderer, err error) {
	if err := SeedCertificates(ctx, cfg); err != nil {
		return cfg, found, nil, err
	}
	cfg = WithTaken(cfg)
	found = SavedFound(cfg)
	r, err = newRendererWith(cfg.With(found), savedPeers(cfg))
	return cfg, found, r, err
}

// newAPI is the API and the page, over what the other parts know.
func (d *Daemon) newAPI(happened *event.Log, watched *reconcile.InvariantWatch, registry *prometheus.Registry) (*api.Server, error) {
	most, perAddress := connections(d.cfg, openFiles())
	if most < d.cfg.API.MaxConnections {
		d.log.Warn("API connections limited by open files", "limit", openFiles(), "connections", most, "wanted", d.cfg.API.MaxConnections)
	}
	summary := func() fleet.Summary {
		s := d.state()
		return fleet.Summarize(s, verdictOf(s))
	}
	all := newGatherer(d.cfg, d.others, summary)
	book, err := NewBook(d.cfg)
	if err != nil {
		return nil, err
	}
	store, err := RolloutStore(d.cfg)
	if err != nil {
		return nil, err
	}
	return api.New(api.Options{
		Address: d.cfg.API.Address, Socket: d.cfg.API.Socket, MaxConnections: most, MaxPerAddress: perAddress, Access: access(d.cfg, func() []string { return *d.hosts.Load() }), LoadBalancer: d.cfg.Name, SigningKeyFile: d.cfg.API.SigningKeyFile,
		Parts: func() (any, []reconcile.ServiceState) {
			head, services := HeadOf(d.state())
			return d.completed(head), services
		},
		Short: func() any { return summary() },
		Fleet: func(ctx context.Context) any { return all.Gather(ctx) }, Deployments: deploymentRecords(book).read, Rollouts: rolloutRecords(store).read,
		Counters: d.counters, Decisions: func() any {
			return flight.NewFile(d.started.Name, d.options.Version, time.Now(), d.decided.Decisions())
		},
		State: func() any { return d.completed(Judged(d.state())) },
		Ready: func() (bool, string) { s := d.agent.State(); return s.Ready, s.NotReady },
		Watch: watch(d.agent, d.source), Drained: watched.Drained, Attend: d.agent.Attend, Events: happened, Release: releaser(d.agent), SetDrain: drainer(d.agent), SetMaintenance: maintainer(d.started, d.haproxy),
		RolloutChanges: rollout.Actions, ChangeRollout: rolloutChanger(store, d.cfg.Name), RequestReload: reloader(d.agent),
		Paused: d.pauseReader().read, SetPause: d.pauseSetter(pause.Store{KV: store.KV}),
		Alive: d.alive, Summary: func() string { return d.agent.State().Summary() }, Metrics: registry, Logger: d.log.Named("api"),
	})
}

// state is the agent's as others see it.
func (d *Daemon) state() *reconcile.State { return withFirstIndexes(d.agent.State(), d.source) }

// MayStart returns why the sidecar must not run: what the settings ask for and HAProxy does not have,
// or a HAProxy that serves what is not ours. What the operator has agreed to is logged.
func (d *Daemon) MayStart(ctx context.Context) error {
	if err := errors.Join(checkExporter(ctx, d.cfg), checkPause(ctx, d.cfg)); err != nil {
		return err
	}
	err := Takeover(ctx, d.cfg, d.render, true)
	if !d.options.Adopt || !canTake(err) {
		return err
	}
	if e, ok := errors.AsType[*TakeoverError](err); ok {
		d.log.Warn("taking over HAProxy", "from", e.What(),
			"goes_away", strings.Join(e.Lost(), ", "), "is_replaced", strings.Join(e.Replaced(), ", "))
		return nil
	}
	if e, ok := errors.AsType[*OwnedError](err); ok {
		d.log.Warn("taking over another sidecar's HAProxy", "name", e.Owner.Name, "host", e.Owner.Host, "file", e.Owner.File)
		return nil
	}
	return err
}

func access(cfg config.Config, hosts func() []string) api.Access {
	s := cfg.API
	return api.Access{
		Hosts: hosts,
		Token: s.Token.Reveal(), TokenFile: s.TokenFile,
		CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, ClientCAFile: s.TLS.ClientCAFile,
	}
}

// callable sets the names by which the API may be called and its actions, and where it
// may look for other sidecars.
func (d *Daemon) callable(cfg config.Config) {
	s := cfg.API
	hosts := append([]string{cfg.Name, hostOf(s.Address), hostOf(s.Advertise)}, s.Hosts...)
	d.hosts.Store(&hosts)
	acts := func(s *reconcile.State) []ActionState { return actions(d.started, cfg, s) }
	d.actions.Store(&acts)
	d.members.Store(&consul.Addresses{Allow: config.Prefixes(cfg.Addresses.Allow), Deny: config.Prefixes(cfg.Addresses.Deny)})
}

func phases() []string {
	names := make([]string, 0, len(reconcile.Phases))
	for _, p := range reconcile.Phases {
		names = append(names, string(p))
	}
	return names
}

func invariants() []string {
	names := make([]string, 0, len(reconcile.Invariants))
	for _, i := range reconcile.Invariants {
		names = append(names, string(i))
	}
	return names
}

// limitRound sets how long one round of the agent's loop may take: it may wait for a
// reload and for a validation of the file.
func (d *Daemon) limitRound(cfg config.Config) {
	d.limit.Store(int64(cfg.HAProxy.ReloadTimeout + cfg.ReconcileInterval + time.Minute))
}

// alive reports whether the agent's loop comes round. Any goroutine may call it.
func (d *Daemon) alive() error {
	limit := time.Duration(d.limit.Load())
	last := d.agent.Ticked()
	if last.IsZero() {
		last = d.agent.State().Started
	}
	if since := time.Since(last); !last.IsZero() && since > limit {
		return fmt.Errorf("loop last ran %s ago", since.Round(time.Second))
	}
	return nil
}

// errStopped is the cause of a context that a signal has ended.
var errStopped = errors.New("stopped by a signal")

// Run runs until ctx ends, or a signal stops it, which is no error.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if !boundGarbage(d.options.Environ) {
		d.haproxy.spare.keepLimit()
	}
	cfg := d.cfg // SIGHUP changes d.cfg
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	go d.handleSignals(ctx, signals, stop)
	lock, err := d.hold(ctx, cfg.Name)
	if err != nil || ctx.Err() != nil {
		return err
	}
	defer lock.Release()

	if isCutOff(cfg) {
		d.log.Warn("api.address unreachable from other machines",
			"address", cfg.API.Address, "settings", "api.address, api.advertise")
	}
	d.log.Info("started", "services", len(cfg.Services), "consul", cfg.Consul.Address, "settings", cfg.File)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.follow(ctx, cfg) })
	group.Go(func() error { return d.catalog.Run(ctx) })
	group.Go(func() error { return d.mover.Run(ctx) })
	group.Go(func() error { return d.agent.Run(ctx) })
	group.Go(func() error { return d.followPeers(ctx, cfg) })
	group.Go(func() error { return d.keepCertificates(ctx) })
	group.Go(func() error { return d.followFound(ctx) })
	group.Go(func() error { return d.followPauses(ctx) })
	if d.traces != nil {
		group.Go(func() error { d.traces.Run(ctx); return nil })
	}
	// No client is sent to a server that has ended: its registration goes first.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return d.status.Run(serving) })
	group.Go(func() error { defer stopServing(); return d.self.run(ctx) })
	group.Go(func() error { return d.balancer.run(ctx) })
	group.Go(func() error { d.systemd.run(ctx); return nil })
	err = group.Wait()
	cause := context.Cause(ctx)
	if err != nil && !errors.Is(err, errStopped) && !errors.Is(err, context.Canceled) {
		return err
	}
	d.log.Info("stopped, HAProxy keeps running", "cause", cause)
	return nil
}

// lockTimeout is how long a sidecar waits for the one before it, which stops.
const lockTimeout = stopTimeout + 3*time.Second

// hold makes this the only sidecar that writes haproxy.cfg. Two would reload
// HAProxy against each other.
func (d *Daemon) hold(ctx context.Context, name string) (*render.Lock, error) {
	if _, err := d.file.Read(); err != nil {
		if _, ok := errors.AsType[*render.NotAFileError](err); ok {
			return nil, err
		}
	}
	lock, err := d.file.Lock(ctx, name, lockTimeout)
	if _, held := errors.AsType[*render.HeldError](err); held {
		if ctx.Err() != nil {
			return nil, nil //nolint:nilerr,nilnil // stopped while it waited
		}
		return nil, err
	}
	if err != nil {
		d.log.Warn("haproxy.cfg cannot be locked, another sidecar on it would not be noticed", "path", d.file.Path(), "error", err)
	}
	d.mu.Lock()
	d.setFound(SavedFound(d.cfg), false) // the sidecar before may have written it meanwhile
	d.mu.Unlock()
	d.setPauses(savedPauses(d.started), nil)
	return lock, nil
}

// follow watches Consul. A port of the API's that is known only once it is bound
// is waited for: no instance may be there.
func (d *Daemon) follow(ctx context.Context, cfg config.Config) error {
	if portOf(cfg.API.Address) == 0 {
		select {
		case <-d.status.Bound():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		d.mu.Lock()
		d.watchServices()
		d.mu.Unlock()
	}
	return d.source.Run(ctx)
}

// handleSignals acts on signals until the context ends, and after it has: a second
// signal to stop is meant.
func (d *Daemon) handleSignals(ctx context.Context, signals <-chan os.Signal, stop context.CancelCauseFunc) {
	stopping := false
	for s := range signals {
		switch {
		case s == syscall.SIGHUP:
			if err := d.systemd.reloading(func() { d.reloadConfig(ctx) }); err != nil {
				d.log.Warn("systemd not notified", "error", err)
			}
		case stopping || ctx.Err() != nil:
			d.log.Warn("second signal, exiting immediately", "signal", s)
			d.options.Exit(128 + int(s.(syscall.Signal)))
		default:
			stopping = true
			d.log.Info("stopping", "signal", s)
			stop(fmt.Errorf("%w: %s", errStopped, s))
		}
	}
}

// reloadConfig takes new settings, or says why not and keeps the old ones.
func (d *Daemon) reloadConfig(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg, err := d.options.Reload()
	if err != nil {
		d.log.Error("invalid configuration, keeping current", "error", err)
		return
	}
	if err := errors.Join(checkExporter(ctx, cfg), checkPause(ctx, cfg)); err != nil {
		d.log.Error("invalid configuration, keeping current", "error", err)
		return
	}
	cfg = WithTaken(cfg)
	found, watch := d.foundBy(cfg)
	rendered := asStarted(cfg, d.started).With(found)
	if err := SeedCertificates(ctx, rendered); err != nil {
		d.log.Error("certificates cannot be used, keeping current configuration", "error", err)
		return
	}
	r, err := newRendererWith(rendered, d.peers)
	if err != nil {
		d.log.Error("invalid template, keeping current configuration", "error", err)
		return
	}
	if err := d.source.SetServices(watchedWith(cfg, found, watch, ownListeners(cfg, r, d.status.Addr()))); err != nil {
		d.log.Error("invalid services, keeping current configuration", "error", err)
		return
	}
	d.catalog.SetBackends(shared(rendered))
	changed := config.Changed(d.cfg, cfg)
	d.reconfigure(r, settings(rendered, r))
	d.callable(cfg)
	d.limitRound(cfg)
	d.balancer.reconfigure(cfg)
	d.self.reconfigure(cfg)
	if restart := config.NeedRestart(changed); len(restart) > 0 {
		d.log.Warn("changed settings need a restart", "settings", strings.Join(restart, ", "))
	}
	d.log.Info("configuration reloaded", "changed", strings.Join(changed, ", "))
	d.cfg, d.found, d.finder.watched = cfg, found, watch
	d.finder.forget()
	d.finder.reconfigured()
	d.certificates.again()
}

// asStarted returns new settings with those old ones that haproxy.cfg must go on saying:
// the file stays where it is, and HAProxy's sockets stay, until a restart.
func asStarted(cfg, started config.Config) config.Config {
	cfg.HAProxy.Config, cfg.HAProxy.Socket, cfg.HAProxy.BaseConfig = started.HAProxy.Config, started.HAProxy.Socket, started.HAProxy.BaseConfig
	return cfg
}

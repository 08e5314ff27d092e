// Package reconcile is the loop: it looks at what Consul says and what HAProxy
// runs, asks plan what to do, does it, and looks again until nothing is left.
//
// Its invariants: a change is done only once HAProxy shows it; one goroutine
// changes HAProxy; nothing is sent that plan has not decided. It declares the
// interfaces that it consumes and imports plan, catalog and route only.
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Settings is what an operator may change while the agent runs.
type Settings struct {
	Services []plan.Service
	Renderer Renderer
	Damping  map[string]Damping // by service; one that is absent damps no instance
	Rotation bool               // the file has the backend plan.RotationBackend
	Maps     []RouteMap         // the routes of each frontend
	// Unheard reports whether a backend's service may have claimed routes that Maps does not
	// have, because Consul has not answered for it since the sidecar started. nil: none may.
	Unheard func(backend string) bool
	Pauses  PauseMap

	ReloadDebounce, ReloadMaxDelay time.Duration // how long changes that need a reload wait for more of their kind
	ReloadInterval                 time.Duration // from the end of one reload to the start of the next, at least
	MaxOldWorkers                  int           // no reload starts while this number of old workers live; 0 is no limit
	MaxOldWorkersMemory            int64         // nor while they take so much memory, in bytes; 0 is no limit

	Reconcile time.Duration // how often everything is compared anyway
	FileDelay time.Duration // how long a write of haproxy.cfg waits for more changes

	// Automatic says that no operator has changed them: reloads keep their pace, so that
	// the source of the change cannot have HAProxy reload all the time.
	Automatic bool
	// OnlyRoutes says that nothing differs from the settings before but Maps and Pauses, and
	// what Renderer renders of them: all else that is known stays.
	OnlyRoutes bool
}

// replacing is the settings in place of others that were not taken yet.
func (s Settings) replacing(older Settings) Settings {
	s.Automatic = s.Automatic && older.Automatic
	s.OnlyRoutes = s.OnlyRoutes && older.OnlyRoutes
	return s
}

// Options is what an Agent is made of.
type Options struct {
	Name    string // of the load balancer
	Version string // of the sidecar

	Catalog Catalog
	HAProxy HAProxy
	Maps    Maps // nil: no routes are changed at runtime
	File    File
	Drains  DrainStore // nil: what an operator drains ends with the sidecar
	// OldWorkersMemory tells how much memory the old workers take, in bytes, as
	// far as can be known. nil: nothing is known.
	OldWorkersMemory func(context.Context) (int64, error)
	// RolloutsError is why the rollouts cannot be read. nil: they are never read.
	RolloutsError func() error
	Settings      Settings
	Recorder      Recorder     // nil: none
	Logger        hclog.Logger // nil: none
	// Decided gets each decision with what it was made from, all of which must not be
	// changed. It is called in the loop. nil: none.
	Decided func(plan.Service, plan.Observed, catalog.Service, *plan.Decision)

	// Jitter draws a time from 0 up to a bound: what is tried again waits so
	// much longer. nil: by chance. A simulation draws from its seed.
	Jitter func(bound time.Duration) time.Duration

	// LargeService is from how many servers on a service has turns, and TurnSteps how
	// many steps one turn takes: see turns. 0 stands for what suits HAProxy.
	LargeService, TurnSteps int
}

// Agent keeps one HAProxy right. Create it with New.
type Agent struct {
	name, version string
	catalog       Catalog
	haproxy       HAProxy
	maps          Maps
	file          File
	memory        func(context.Context) (int64, error)
	rolloutsError func() error
	record        Recorder
	recordDecided func(plan.Service, plan.Observed, catalog.Service, *plan.Decision)
	log           hclog.Logger
	jitter        func(time.Duration) time.Duration

	reconfigured chan Settings // room for one, the newest
	releases     chan release
	orders       chan reloadOrder
	drains       drainKeeper
	tried        chan *trial      // room for more than can be under way
	compared     chan *comparison // room for one
	newest       atomic.Pointer[published]
	attending    atomic.Int32  // how many wait for what is published
	attended     chan struct{} // one value: a client has begun to
	ticked       atomic.Int64  // when the loop last came round, in nanoseconds since 1970

	// The rest belongs to the goroutine of Run.
	set     Settings
	ran     map[string]plan.Service // as HAProxy last ran them, by backend
	ranOf   *plan.Service           // the first of the settings that ran is of
	known   observedCache
	told    catalog.Snapshot // in this pass, also of the services that have no turn
	decided decided
	turns   turns
	moves   moves
	chain   chain
	behind  behindKeeper

	isComparing  bool             // beside the loop
	compareWhole time.Time        // when everything is compared again; until then only who serves
	shown        map[string]shown // by backend
	inOrder      struct {         // the services as published, of these settings
		of  *plan.Service
		all []*plan.Service
	}
	files     fileKeeper
	reloads   reloadKeeper
	routes    routeKeeper
	pauses    pauseKeeper
	guard     guardKeeper
	isolated  isolated
	flaps     flapKeeper
	trouble   trouble
	empty     map[string]bool    // services without an instance, as logged
	down      map[[2]string]bool // servers by backend and name that HAProxy's check has down, as logged
	pace      pace
	started   time.Time
	converged bool      // HAProxy was once seen to run all that Consul says
	away      time.Time // since when HAProxy can't be read; zero: it can
	stopped   bool      // no HAProxy listened when it was last read
	old       oldWorkers

	last      map[string][]plan.FileServer       // who took traffic when HAProxy last ran, or is in its file since
	announced map[string]map[netip.AddrPort]bool // by service, where an instance was that has said that it leaves

	maintenance bool               // as logged
	applied     map[string]applied // by service
}

// applied is what was last seen applied of one service.
type applied struct {
	change time.Time // the catalog's change that it was
	at     time.Time
	took   time.Duration // from the change on; 0 for the first one, which is none
}

// New checks the options and starts nothing.
func New(o Options) (*Agent, error) {
	switch {
	case o.Catalog == nil, o.HAProxy == nil, o.File == nil, o.Settings.Renderer == nil:
		return nil, errors.New("agent: Catalog, HAProxy, File and Settings.Renderer must be set")
	case o.Settings.Reconcile <= 0:
		return nil, fmt.Errorf("agent: Settings.Reconcile is %s, must be above 0", o.Settings.Reconcile)
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.OldWorkersMemory == nil {
		o.OldWorkersMemory = func(context.Context) (int64, error) { return 0, nil }
	}
	if o.RolloutsError == nil {
		o.RolloutsError = func() error { return nil }
	}
	if o.Recorder == nil {
		o.Recorder = noRecorder{}
	}
	if o.Decided == nil {
		o.Decided = func(plan.Service, plan.Observed, catalog.Service, *plan.Decision) {}
	}
	if o.Jitter == nil {
		o.Jitter = rand.N[time.Duration] // needs no secrecy
	}
	a := &Agent{
		name: o.Name, version: o.Version,
		catalog: o.Catalog, haproxy: o.HAProxy, maps: o.Maps, file: o.File, memory: o.OldWorkersMemory, rolloutsError: o.RolloutsError, record: o.Recorder, recordDecided: o.Decided, log: o.Logger, jitter: o.Jitter,
		reconfigured: make(chan Settings, 1), releases: make(chan release), orders: make(chan reloadOrder), drains: drainKeeper{store: o.Drains, changes: make(chan []catalog.OperatorDrain)}, tried: make(chan *trial, 16), attended: make(chan struct{}, 1),
		set:      o.Settings,
		isolated: isolated{asked: o.Settings},
		files:    fileKeeper{done: make(chan fileWrite, 1)},
		reloads:  reloadKeeper{done: make(chan *reload, 1)},
		old:      oldWorkers{done: make(chan oldCount, 1)},
		compared: make(chan *comparison, 1),
		known:    newObservedCache(),
		turns:    turns{large: cmp.Or(o.LargeService, largeService), steps: cmp.Or(o.TurnSteps, turnSteps)},
		flaps:    newFlapKeeper(),
		applied:  map[string]applied{},
		shown:    map[string]shown{},
		empty:    map[string]bool{},

		announced: map[string]map[netip.AddrPort]bool{},
	}
	a.show(&State{LoadBalancer: o.Name, Version: o.Version, NotReady: "the sidecar is starting", File: FileState{LeftOut: []LeftOutState{}}, ReloadRequests: []ReloadRequest{}, Services: []ServiceState{}, Frontends: []FrontendState{}, Drains: []catalog.OperatorDrain{}})
	return a, nil
}

// Ticked is when the loop last came round; zero before it first did.
func (a *Agent) Ticked() time.Time {
	if n := a.ticked.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Reconfigure makes the loop go on with other settings. It never blocks.
func (a *Agent) Reconfigure(s Settings) {
	for {
		select {
		case a.reconfigured <- s:
			return
		default:
		}
		select {
		case older := <-a.reconfigured: // was not taken yet
			s = s.replacing(older)
		default:
		}
	}
}

// Run keeps HAProxy right until the context ends. It changes nothing on its
// way out: HAProxy keeps running.
func (a *Agent) Run(ctx context.Context) error {
	a.started = time.Now()
	a.recallMaintenance()
	a.recallTraffic()
	a.recallDrains()
	defer a.endBeside()
	timer := time.NewTimer(0)
	defer timer.Stop()
	compare := time.NewTimer(a.untilCompared())
	defer compare.Stop()
	for {
		w := a.wake(ctx, timer.C, compare.C)
		a.takeOrders(w) // also now: a client waits for the answer
		if w.written != nil {
			a.noteWritten(ctx, *w.written)
		}
		if w.reloaded != nil {
			a.noteReload(ctx, w.reloaded)
		}
		if w.counted != nil && a.noteOldWorkers(ctx, *w.counted) {
			w.isAside = false
		}
		if w.compared != nil {
			w.isAside = !a.noteCompared(w.compared) && w.isAside
			compare.Reset(a.untilCompared())
		}
		for _, t := range w.tried {
			a.noteTried(ctx, t)
		}
		if ctx.Err() != nil {
			return nil
		}
		if w.settings != nil {
			if !w.settings.Automatic {
				a.reloads.unforeseen = 0
			}
			if a.adoptRoutes(*w.settings) {
				a.syncRoutes(ctx) // they wait for nothing that a pass does
			} else {
				a.adopt(*w.settings)
				a.compareWhole = time.Time{}
				compare.Reset(a.untilCompared())
			}
		}
		if w.compare && w.compared == nil {
			compare.Reset(a.untilCompared())
			w.isAside = a.compare(ctx) && w.isAside
		}
		if w.isAside {
			continue // the timer runs on
		}
		again := a.pass(ctx)
		a.ticked.Store(time.Now().UnixNano())
		timer.Reset(again)
	}
}

// takeOrders does what operators ask for.
func (a *Agent) takeOrders(w wake) {
	for _, r := range w.releases {
		a.doRelease(r)
	}
	for _, o := range w.orders {
		a.takeOrder(o)
	}
	if w.drains != nil {
		a.noteDrains(*w.drains)
	}
}

// endBeside waits for what is under way beside the loop. The context has ended, so
// that does not take long.
func (a *Agent) endBeside() {
	if a.files.writing != nil {
		<-a.files.done
	}
	if a.reloads.running != nil {
		<-a.reloads.done
	}
	if a.old.counting {
		<-a.old.done
	}
	if a.isComparing {
		<-a.compared
	}
}

// adopt takes new settings. What failed with the old ones of an operator is tried at once.
func (a *Agent) adopt(s Settings) {
	isAutomatic := s.Automatic
	s.Automatic, s.OnlyRoutes = false, false // they are of this once
	a.set, a.isolated, a.files.alike = s, isolated{asked: s}, nil
	a.known.forget()
	a.known.keep(a.known.backends(s))
	a.takeDrains(a.drains.now)
	was := a.shown
	a.shown = make(map[string]shown, len(s.Services))
	for _, svc := range s.Services {
		a.shown[svc.Backend] = shown{instances: was[svc.Backend].instances}
	}
	a.flaps.keep(s.Services)
	if !isAutomatic {
		a.reloads.newSettings()
	}
	a.routes.ofPID = 0
	a.routes.expect()
	a.files.retry, a.files.due, a.files.rejected = backoff{}, time.Time{}, plan.Marker{}
	a.trouble.until = time.Time{}
}

// adoptRoutes takes new settings of which only the routes are new, and reports whether it
// could. Where a service is left out, all is tried again with them.
func (a *Agent) adoptRoutes(s Settings) bool {
	if !s.OnlyRoutes || len(a.isolated.left) > 0 || a.isolated.hopeless {
		return false
	}
	s.Automatic, s.OnlyRoutes = false, false
	a.files.noteAlike(a.set.Renderer, a.reloads.running)
	a.set, a.isolated.asked = s, s
	a.routes.expect()
	if a.files.err != nil { // else what waits to be written does not wait for the next change
		a.files.retry, a.files.due, a.files.rejected = backoff{}, time.Time{}, plan.Marker{}
	}
	return true
}

// pass does what can be done now and gives the time until it should look
// again, if nothing else happens before.
func (a *Agent) pass(ctx context.Context) time.Duration {
	began := time.Now()
	// In this order: what changes in between is known to be new next time.
	news := a.known.news(a.set.Services, a.catalog)
	a.turns.begin(a.set.Services, &a.known, a.catalog.Snapshot(), news)
	changed := a.known.changed(a.turns.in(a.set.Services), news)
	a.told = a.catalog.Snapshot()
	snap := a.turns.hold(a.told)
	for _, svc := range changed {
		a.observeFlaps(svc, snap.Service(svc.Backend))
		a.noteAnnounced(svc, snap.Service(svc.Backend))
		a.noteEmpty(svc, snap.Service(svc.Backend))
	}
	a.anticipate(ctx, snap, changed)
	p, err := a.converge(ctx, snap)
	if errors.Is(err, errAnotherProcess) {
		return a.pass(ctx)
	}
	if o := a.known.observed; o.Running && o.PID != a.old.of {
		a.countOldWorkers(ctx) // another program may have reloaded it
	}
	if ctx.Err() != nil {
		return time.Hour // Run sees it too
	}
	again := time.Hour // everything is compared before
	switch {
	case errors.Is(err, plan.ErrNotRunning):
		a.reloads.move(RequestDue, RequestFailed, a.known.observed.PID, errStopped)
		a.routes.forget()
		a.pauses = pauseKeeper{logged: a.pauses.logged}
		again = min(again, a.syncFile(ctx, p), notRunningAgain)
	case err != nil:
		a.routes.forget()
		again = a.trouble.retry.next(a.jitter)
	default:
		// A reload that is due comes first: it writes the file, too.
		again = min(again, a.syncReload(ctx, p), a.syncFile(ctx, p), a.guard.next(time.Now(), a.set.Services), a.syncFlaps(time.Now()), a.syncPauses(ctx), a.syncRoutes(ctx), a.pollDelay(p))
		if slices.ContainsFunc(a.routes.held, func(b string) bool { return !a.mayLeadTo(b) }) {
			again = 0 // its end waited for the routes
		}
		a.noteApplied(p)
		a.noteHolds()
		a.noteDown(p)
	}
	again = min(again, a.syncIsolated(ctx, p))
	if ctx.Err() != nil {
		return time.Hour // what was cut short proves nothing
	}
	a.publish(snap, p)
	a.turns.end(began, p.Steps, a.decided.decisions)
	if err == nil {
		again = min(again, a.turns.until(&a.known))
	}
	return max(again, time.Millisecond)
}

// notRunningAgain is how often a HAProxy that is not there is looked for: one
// connection to a socket.
const notRunningAgain = 100 * time.Millisecond

// pollDelay is how soon something that is under way should be looked at again.
func (a *Agent) pollDelay(p plan.Plan) time.Duration {
	again := a.pace.next(time.Now(), p.Waiting)
	if a.attending.Load() > 0 && slices.ContainsFunc(p.Waiting, func(w plan.Waiting) bool { return w.For == plan.ForSessions }) {
		again = min(again, attendedPace)
	}
	switch {
	case a.chain.isOpen:
		again = 0
	case len(a.sendable(a.turns.small(p.Steps))) > 0:
		again = min(again, max(0, a.trouble.wait()))
	case len(a.turns.small(p.Steps)) > 0:
		again = min(again, a.untilTakeover())
	}
	return again
}

type noRecorder struct{}

func (noRecorder) Step(string, plan.Step, error)   {}
func (noRecorder) Reload(plan.ReloadReason, error) {}
func (noRecorder) FileWritten(error)               {}
func (noRecorder) FilePutBack()                    {}
func (noRecorder) Applied(string, time.Duration)   {}
func (noRecorder) State(*State)                    {}

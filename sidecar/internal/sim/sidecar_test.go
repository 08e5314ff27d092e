package sim

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// sidecar is one process of it, with the real loop. It knows nothing of the one
// before it but what HAProxy, the file and Consul tell.
type sidecar struct {
	w        *world
	number   int
	agent    *reconcile.Agent
	settings reconcile.Settings // as it was last told
	view     *view
	overlay  *overlay // nil: there are no rollouts
	cancel   context.CancelFunc
	ended    bool

	told    bool // to end; from then on it must change nothing
	dead    bool // it was killed: what it does beside the loop ends, too
	calling int  // calls of the loop under way; it is idle while there is none
	beside  int  // calls under way that the loop does not wait for
	dice    *rand.Rand
	doomed  bool // it dies where it is now, or where it comes by next
	fuse    int  // points until it dies; 0: it does not

	// What it acts on: what was last read, and what was sent since.
	given      catalog.Snapshot
	givenEpoch map[string]int // the time of Consul's life that each of its answers is of
	saw        plan.Observed
	sawAt      map[*server]time.Duration
	oldSaw     int // old workers, as last counted

	need     need
	began    content       // the file at its start
	neededAt time.Duration // when a look at HAProxy last gave a reason for a reload
	needed   bool          // there was one when a write of the file began
	oldHeld  int           // old workers, as they were counted before it

	inPass   bool                     // the loop has called, and has not told its state since
	passed   time.Duration            // when its pass began
	compared func()                   // takes a comparison that the loop has not taken yet
	touched  map[string]time.Duration // when the loop last read or changed a backend

	comparedAt time.Duration        // when that read HAProxy
	comparedOf map[string][]*server // and which servers

	away         bool                     // HAProxy did not run when it last looked
	filed        map[string][]plan.Server // who took traffic when HAProxy last ran, or is in the file since
	heardLeaving map[place]bool           // instances that it was told are meant to go
	leftAs       map[[2]string]bool       // the same, by service and server's name

	looked  map[string]answer      // by backend: what it was given of the service when it last looked
	refuses map[string]plan.Marker // by backend: of the configuration that has refused it a new server

	absent map[string]map[string]time.Duration // by backend and server's name: see noteAbsent

	ill         map[string]bool          // instances that were told not to be well: they may be damped
	large       map[string]bool          // backends whose service has turns in this pass
	unplanned   map[string]bool          // backends of large services that were compared since their last turn: the file has them as they were
	turnDue     map[string]time.Duration // by backend, of which something was heard: when it must have been read
	finder      finder                   // of the routes that services claim
	readMaps    map[*table]time.Duration // when it last read each map
	hidden      bool                     // its settings do not have the discovered service
	hiddenAt    time.Duration            // when that last changed
	clean       bool                     // it should find nothing to do
	passes      int                      // of the loop since that time
	passesFrom  time.Duration
	failed      time.Duration
	slowed      time.Duration            // when a call last took long
	wrote       map[string]time.Duration // by backend: when a write ended that has it otherwise than the last
	written     []plan.FileBackend       // by the last
	looks       time.Duration            // when it must have looked at HAProxy; 0: there is no need
	owes        bool                     // its next call must be Apply
	rounds      int                      // looks of this pass
	reloaded    time.Duration            // when its last reload ended; 0: none has, or it has new settings since that began
	reloadEnded time.Duration            // the same, also then
	ordered     time.Duration            // when an operator last changed its settings
	writeBegan  time.Duration
	reloadBegan time.Duration // when the last that succeeded was asked of HAProxy
	asks        []asked       // of an operator, that have not ended as far as the state said
	asking      int           // that were not answered yet
	reset       bool          // new settings have come since its last reload began
	readForeign string        // a file of another program that it has read
	steps       int
	reloads     int
	writes      int
}

// startSidecar starts one, if none runs.
func (w *world) startSidecar() {
	if w.sidecar != nil {
		return
	}
	w.started++
	if w.disk.foreign {
		clear(w.left) // it takes what is in that file for what HAProxy last ran
		clear(w.liveRoutes)
	}
	s := &sidecar{
		w: w, number: w.started, clean: w.rests(), readMaps: map[*table]time.Duration{}, failed: -time.Hour, slowed: -time.Hour, ill: map[string]bool{}, large: map[string]bool{}, wrote: map[string]time.Duration{}, turnDue: map[string]time.Duration{}, unplanned: map[string]bool{}, heardLeaving: map[place]bool{}, leftAs: map[[2]string]bool{}, sawAt: map[*server]time.Duration{}, looked: map[string]answer{}, refuses: map[string]plan.Marker{}, touched: map[string]time.Duration{}, absent: map[string]map[string]time.Duration{},
		dice: rand.New(rand.NewPCG(w.Seed, uint64(w.started)<<40)),
	}
	s.view = newView(w, s)
	s.overlay = w.newOverlay(s)
	s.take(w.savedFound())
	s.finder.operator = maps.Clone(w.operator)
	a, err := reconcile.New(reconcile.Options{
		Name: "lb", Catalog: s.view, HAProxy: link{s}, Maps: link{s}, File: file{s}, Recorder: recorder{s}, Decided: w.Decided, Settings: s.settings,
		LargeService: w.largeService(), TurnSteps: 1 + int(w.Seed>>2%3),
		Jitter: func(bound time.Duration) time.Duration {
			w.mu.Lock()
			defer w.mu.Unlock()
			return time.Duration(w.callRNG.Int64N(int64(bound)))
		},
	})
	if err != nil {
		panic(err)
	}
	s.agent = a
	s.began, _ = w.disk.on()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	w.sidecar = s
	w.note("sidecar %d starts; it should find something to do: %v", s.number, !s.clean)
	if w.consul.up {
		w.consul.tellAll(pick(w.callRNG, 5*time.Millisecond, 50*time.Millisecond, 3*time.Second))
	} else {
		s.view.fail()
	}
	s.look()
	if s.overlay != nil {
		w.loops.Go(func() { _ = s.overlay.Run(ctx) })
	}
	w.loops.Go(func() {
		defer s.end()
		_ = a.Run(ctx)
	})
}

func (s *sidecar) end() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.cancel()
	s.ended = true
	if s.w.sidecar == s {
		s.w.sidecar = nil
	}
	s.w.note("sidecar %d has ended", s.number)
}

// kill ends it at once: where it is, if it is in the middle of something.
func (s *sidecar) kill() {
	s.dead = true
	if s.calling > 0 {
		s.doomed = true
		return
	}
	s.terminate()
}

// terminate asks it to end.
func (s *sidecar) terminate() {
	s.told = true
	s.cancel()
}

// heard gets each answer that brings it something new.
func (s *sidecar) heard(told catalog.Service) {
	if s.isHidden(s.w.service(told.Name)) {
		return // it is none of the settings
	}
	s.expects(told.Name)
	for _, i := range told.Instances {
		if i.Health != catalog.Passing {
			s.ill[i.ID] = true
		}
	}
}

// expects notes that a service is to be looked into soon.
func (s *sidecar) expects(service string) {
	if s.isHidden(s.w.service(service)) || !s.w.proxy.running {
		return
	}
	if s.turnDue[service] == 0 {
		s.turnDue[service] = s.w.now() + promptly + inTurn
	}
	if s.calling == 0 && s.looks == 0 {
		s.looks = s.w.now() + promptly
	}
}

// takes notes what its loop has seen. An answer that the next one replaces while the
// loop is in a call is not seen.
func (s *sidecar) takes(told catalog.Service) {
	for _, i := range told.Instances {
		if announced(i) {
			s.heardLeaving[place{told.Name, i.Addr}], s.leftAs[[2]string{told.Name, i.Server}] = true, true
		}
	}
}

// promptly is how soon after an answer HAProxy must be looked at: a pass that
// is under way may pause for steps that do not show.
const promptly = 200 * time.Millisecond

// inTurn is how much longer that may take for a large service, which lets the small
// ones go first.
const inTurn = 200 * time.Millisecond

// largeService makes all services large in each third history, and some of them in
// another third.
func (w *world) largeService() int { return [...]int{math.MaxInt, 1, 4}[w.Seed%3] }

// noteLarge notes which services have turns in the pass that begins.
func (s *sidecar) noteLarge() {
	for _, svc := range s.settings.Services {
		if s.isLarge(svc.Backend) {
			s.large[svc.Backend] = true
		}
	}
}

func (s *sidecar) isLarge(backend string) bool {
	return max(len(s.saw.Backends[backend].Servers), len(s.view.snap.Service(backend).Instances)) >= s.w.largeService()
}

// calm is how long after a failure nothing that failed is waited with any more.
const calm = 15 * time.Second

// begin is the start of a call, which takes some time. It gives the context's
// error, if it has ended. The caller holds mu.
func (s *sidecar) begin(ctx context.Context) error {
	s.calling++
	return s.pass(ctx, s.latency())
}

// done is the end of a call.
func (s *sidecar) done() { s.calling-- }

func (s *sidecar) latency() time.Duration {
	if roll := s.w.callRNG.Float64(); roll < s.w.trouble.slow {
		s.slowed = s.w.now()
		return time.Duration(s.w.callRNG.Int64N(int64(3 * time.Second)))
	}
	return time.Duration(s.w.callRNG.Int64N(int64(s.w.set.latency)))
}

// pass lets time go by within a call; here the sidecar may die.
func (s *sidecar) pass(ctx context.Context, d time.Duration) error {
	s.perhapsDie()
	s.w.mu.Unlock()
	time.Sleep(d)
	s.w.mu.Lock()
	s.w.settle()
	s.perhapsDie()
	return ctx.Err()
}

// perhapsDie is kill -9: nothing of the loop runs after it.
func (s *sidecar) perhapsDie() {
	if s.fuse > 0 {
		s.fuse--
		if s.fuse == 0 {
			s.dead, s.doomed = true, true
		}
	}
	if s.doomed {
		s.w.note("sidecar %d dies in the middle of a call", s.number)
		runtime.Goexit()
	}
}

// fails draws whether a call goes wrong in one way.
func (s *sidecar) fails(p float64) bool {
	if p > 0 && s.w.callRNG.Float64() < p {
		s.failed = s.w.now()
		return true
	}
	return false
}

// take has the sidecar go on with the settings of now, and with what was found.
func (s *sidecar) take(found route.Found) {
	set := &s.w.set
	s.finder.found, s.hidden = found, !s.w.hasFound(found)
	s.settings = reconcile.Settings{
		Services: set.with(found, s.finder.tracker.Unheard), Rotation: set.rotation, Damping: set.damping,
		ReloadDebounce: set.reloadDebounce, ReloadMaxDelay: set.reloadMaxDelay, ReloadInterval: set.reloadInterval, MaxOldWorkers: set.maxOldWorkers,
		Reconcile: set.reconcile, FileDelay: set.fileDelay,
	}
	s.settings.Renderer, s.settings.Maps = s.withRoutes(found)
	s.settings.Unheard = s.finder.isUnheard()
}

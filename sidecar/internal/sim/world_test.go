package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Options says which history to run, and how much of it.
type Options struct {
	Seed    uint64
	Events  int      // largest number of events; below 0: as many as the seed has
	Without []string // kinds of events that do not happen
	Trace   bool     // write down what happens

	// Decided gets each decision of the sidecars; nil ok.
	Decided func(plan.Service, plan.Observed, catalog.Service, *plan.Decision)
	// Applied gets the steps that a sidecar sends; nil ok.
	Applied func([]plan.Step)
}

// Result is what became of a history.
type Result struct {
	Violations []Violation // the first ones, in order
	Trace      []string
	Events     int // that happened
	Steps      int // that the sidecar sent
	Reloads    int // that the sidecar asked for
	Requests   int // that were routed
	Virtual    time.Duration
}

// Violation is one breach of an invariant.
type Violation struct {
	Invariant invariant
	At        time.Duration
	What      string
}

// String returns it as one line.
func (v Violation) String() string {
	return fmt.Sprintf("%10.4fs %s: %s", v.At.Seconds(), v.Invariant, v.What)
}

// maxViolations is how many are kept: what comes after the first is often its
// consequence.
const maxViolations = 5

// world is one history: all that is outside of the sidecar, and the sidecar.
//
// Two goroutines use it, the driver and the sidecar's loop, and never at the
// same time: the driver waits until the loop is blocked, and the loop is only
// blocked while it waits or sleeps in a call.
type world struct {
	Options
	mu    sync.Mutex
	began time.Time
	queue queue
	kick  chan struct{} // one value: the queue's first may be another now

	chance   *rand.PCG  // of dice, set again for each event
	eventRNG *rand.Rand // what happens
	callRNG  *rand.Rand // how the calls of the sidecar go

	set     scenario
	trouble trouble
	changed time.Duration // when anything last changed that the sidecar may have to follow
	healed  bool          // nothing goes wrong any more

	consul  *consul
	proxy   *proxy
	disk    *disk
	nodes   []*node
	where   map[netip.AddrPort]*node // who has an address, or had it last
	sidecar *sidecar                 // nil while none runs
	started int                      // sidecars
	loops   sync.WaitGroup           // of sidecars

	// said holds every address that Consul ever gave for a service, and those
	// that an operator has set by hand.
	said map[place]bool
	// left holds the addresses of nodes that left in order, and were told that
	// no session is on them any more: true if the file was said to know it, too.
	left map[place]bool
	// operator holds the routes of the settings, ordained when they last were others, and tags
	// what the instances of each service claim that start now.
	operator map[routeKey]route.Route
	ordained map[routeKey]time.Duration
	tags     map[string][]string
	// live holds the claimed routes that were called live: see checkLive.
	liveRoutes map[routeKey]live

	res Result
}

// place is an address in a service.
type place struct {
	service string
	addr    netip.AddrPort
}

// Run runs one history. It must be called in a bubble of testing/synctest.
func Run(o Options) Result {
	w := &world{
		Options: o, began: time.Now(), kick: make(chan struct{}, 1),
		chance: rand.NewPCG(o.Seed, 0), callRNG: rand.New(rand.NewPCG(o.Seed, 1<<32)),
		where: map[netip.AddrPort]*node{}, said: map[place]bool{}, left: map[place]bool{},
		operator: map[routeKey]route.Route{}, ordained: map[routeKey]time.Duration{}, tags: map[string][]string{}, liveRoutes: map[routeKey]live{},
	}
	w.eventRNG = rand.New(w.chance)
	w.mu.Lock()
	w.set = drawScenario(w.eventRNG)
	w.consul = newConsul(w)
	w.disk = &disk{w: w, known: map[string]content{}, maps: map[string][]route.Entry{}}
	w.proxy = &proxy{w: w, pid: 100, dynamic: w.set.dynamic}
	w.note("%s", w.set)
	w.populate()
	w.mu.Unlock()

	w.live()
	w.heal()
	w.end()
	w.mu.Lock()
	if w.sidecar != nil {
		w.sidecar.terminate()
	}
	w.mu.Unlock()
	w.loops.Wait()
	w.res.Virtual = w.now()
	return w.res
}

// now is the time since the history began.
func (w *world) now() time.Duration { return time.Since(w.began) }

// note writes a line into the trace.
func (w *world) note(format string, args ...any) {
	if !w.Trace {
		return
	}
	w.res.Trace = append(w.res.Trace, fmt.Sprintf("%10.4fs ", w.now().Seconds())+fmt.Sprintf(format, args...))
}

// breach records a violation.
func (w *world) breach(i invariant, format string, args ...any) {
	if len(w.res.Violations) >= maxViolations {
		return
	}
	v := Violation{i, w.now(), fmt.Sprintf(format, args...)}
	w.res.Violations = append(w.res.Violations, v)
	w.note("VIOLATION %s: %s", i, v.What)
}

func (w *world) broken() bool { return len(w.res.Violations) > 0 }

// after lets something happen later. The caller holds mu.
func (w *world) after(d time.Duration, do func()) {
	w.queue.add(w.now()+d, do)
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// runUntil lets time go by until done says so or the time is over, and reports
// whether it did say so.
func (w *world) runUntil(deadline time.Duration, done func() bool) bool {
	for {
		synctest.Wait() // the sidecar has done all that it can now
		w.mu.Lock()
		for !w.broken() {
			do, due := w.queue.take(w.now())
			if !due {
				break
			}
			do()
			w.settle()
			if w.sidecar != nil {
				w.sidecar.checkPrompt()
				w.sidecar.checkTurns()
			}
			w.mu.Unlock()
			synctest.Wait()
			w.mu.Lock()
		}
		if w.broken() || done != nil && done() {
			w.mu.Unlock()
			return true
		}
		next := w.queue.next(deadline)
		w.mu.Unlock()
		wait := next - w.now()
		if next >= deadline && wait <= 0 {
			return false
		}
		if done != nil {
			wait = min(wait, time.Second) // the sidecar may be done meanwhile
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-w.kick:
		}
		t.Stop()
	}
}

// settle brings the world to the present after a step, and checks what must
// hold at all times.
func (w *world) settle() {
	w.proxy.settle()
	w.checkRoutes()
}

// chance draws.
func (w *world) maybe(p float64) bool { return w.eventRNG.Float64() < p }

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.eventRNG.Int64N(int64(d) + 1))
}

func (w *world) between(a, b time.Duration) time.Duration { return a + w.upTo(b-a) }

// service returns the policy of a service by Consul's name.
func (w *world) service(name string) plan.Service {
	for _, s := range w.set.services {
		if s.Name == name {
			return s
		}
	}
	panic("no service " + name)
}

func (w *world) serviceOf(backend string) string { return strings.TrimSuffix(backend, "_nodes") }

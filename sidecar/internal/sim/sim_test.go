package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds   = flag.Uint64("seeds", 200, "how many histories to run")
	lasts   = flag.Duration("for", 0, "start histories for this long, however many that are; 0: as many as -seeds says")
	from    = flag.Uint64("from", 1, "the first one's seed; 0: a random one")
	stop    = flag.Bool("stop", false, "stop at the first that fails")
	replay  = flag.Uint64("seed", 0, "run this history only, and print it")
	events  = flag.Int("events", -1, "of a replay: the largest number of events")
	with    = flag.String("with", "", "only histories in which all these kinds of events happen, by commas")
	without = flag.String("without", "", "of a replay: kinds of events that do not happen, by commas")
)

// history runs one in a bubble of its own.
func history(t *testing.T, o Options) (r Result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r = Run(o) })
	return r
}

func TestHistories(t *testing.T) {
	if *replay != 0 {
		replayed(t, Options{Seed: *replay, Events: *events, Without: strings.Split(*without, ","), Trace: true})
		return
	}
	c := campaign{t: t, began: time.Now(), from: *from}
	if c.from == 0 {
		c.from = 1 + rand.Uint64N(maxDrawn)
	}
	fmt.Printf("histories from %d on; to repeat them, give FROM=%d\n", c.from, c.from)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(c.run)
	}
	group.Wait()
	c.report()
}

// campaign runs many histories, several at a time.
type campaign struct {
	t     *testing.T
	began time.Time
	from  uint64        // the first seed
	next  atomic.Uint64 // counted from from

	mu     sync.Mutex
	done   uint64
	failed []uint64
	sum    Result
}

// maxDrawn bounds the first seed that is drawn, so that it is short to type.
const maxDrawn = 1_000_000_000

// maxTold is how many failures are shown with all that is known of them: what
// fails a thousand times fails for few reasons.
const maxTold = 10

func (c *campaign) run() {
	for {
		n := c.next.Add(1) - 1
		if c.isOver(n) || *stop && c.failures() > 0 {
			return
		}
		if !draws(c.from+n, *with) {
			continue
		}
		r := history(c.t, Options{Seed: c.from + n, Events: -1})
		if c.take(c.from+n, r) <= maxTold && len(r.Violations) > 0 {
			c.tell(shrink(c.t, c.from+n, r))
		}
	}
}

// draws reports whether kinds of events can happen in a history.
func draws(seed uint64, kinds string) bool {
	if kinds == "" {
		return true
	}
	set := drawScenario(rand.New(rand.NewPCG(seed, 0)))
	for name := range strings.SplitSeq(kinds, ",") {
		if set.weights[name] == 0 {
			return false
		}
	}
	return true
}

// isOver reports whether no history is to start after the first n.
func (c *campaign) isOver(n uint64) bool {
	if *lasts > 0 {
		return time.Since(c.began) >= *lasts
	}
	return n >= *seeds
}

func (c *campaign) failures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.failed)
}

// take counts a history, and gives how many have failed.
func (c *campaign) take(seed uint64, r Result) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Steps += r.Steps
	c.sum.Reloads += r.Reloads
	c.sum.Requests += r.Requests
	c.sum.Virtual += r.Virtual
	if len(r.Violations) > 0 {
		c.failed = append(c.failed, seed)
	}
	if c.done++; c.done%5000 == 0 {
		fmt.Printf("%d histories, %d failed, %s\n", c.done, len(c.failed), time.Since(c.began).Round(time.Second))
	}
	return len(c.failed)
}

// tell prints a failure when it is found: the rest may take long.
func (c *campaign) tell(o Options, r Result) {
	args := ""
	if o.Events >= 0 {
		args += fmt.Sprintf(" EVENTS=%d", o.Events)
	}
	if len(o.Without) > 0 {
		args += " WITHOUT=" + strings.Join(o.Without, ",")
	}
	fmt.Printf("seed %d: %.300s\n    make sim SEED=%d%s\n", o.Seed, r.Violations[0], o.Seed, args)
}

func (c *campaign) report() {
	slices.Sort(c.failed)
	s, took := c.sum, time.Since(c.began)
	c.t.Logf("%d histories from %d on: %s of HAProxy's time in %s, %.0f histories a second, %d steps, %d reloads, %d requests, %d failed", c.done, c.from,
		s.Virtual.Round(time.Hour), took.Round(time.Millisecond), float64(c.done)/took.Seconds(), s.Steps, s.Reloads, s.Requests, len(c.failed))
	if len(c.failed) > 0 {
		c.t.Errorf("first failing seed: %d", c.failed[0])
	}
}

// shrink looks for fewer events that end with a violation too: the rest of the
// history is in the way of its reader.
func shrink(t *testing.T, seed uint64, failed Result) (Options, Result) {
	t.Helper()
	o, last := Options{Seed: seed, Events: -1}, failed
	try := func(smaller Options) bool {
		r := history(t, smaller)
		if len(r.Violations) == 0 {
			return false
		}
		o, last = smaller, r
		return true
	}
	for n := failed.Events; n >= 0 && try(Options{Seed: seed, Events: n}); {
		n--
	}
	for _, k := range kinds {
		try(Options{Seed: seed, Events: o.Events, Without: append(slices.Clone(o.Without), k.name)})
	}
	return o, last
}

func replayed(t *testing.T, o Options) {
	r := history(t, o)
	fmt.Fprintln(os.Stdout, strings.Join(r.Trace, "\n"))
	for _, v := range r.Violations {
		t.Error(v)
	}
	t.Logf("%d events; %d steps, %d reloads, %d requests", r.Events, r.Steps, r.Reloads, r.Requests)
}

func TestOneSeedIsOneHistory(t *testing.T) {
	for seed := range uint64(30) {
		o := Options{Seed: seed + 1, Events: -1, Trace: true}
		a, b := history(t, o), history(t, o)
		for i := range max(len(a.Trace), len(b.Trace)) {
			if i >= len(a.Trace) || i >= len(b.Trace) || a.Trace[i] != b.Trace[i] {
				t.Fatalf("seed %d differs from line %d on:\n%q\n%q", seed+1, i, a.Trace[i:min(i+1, len(a.Trace))], b.Trace[i:min(i+1, len(b.Trace))])
			}
		}
	}
}

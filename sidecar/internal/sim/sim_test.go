//go:build sim

package sim

import (
	"flag"
	"fmt"
	"maps"
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
	seeds  = flag.Uint64("seeds", 600, "how many histories to run")
	from   = flag.Uint64("from", 1, "the first one's seed")
	replay = flag.Uint64("seed", 0, "run this history only, and print it")
	events = flag.Int("events", -1, "of a replay: so many events at most")
	kindsX = flag.String("without", "", "of a replay: kinds of events that do not happen, by commas")
)

// history runs one in a bubble of its own.
func history(t *testing.T, o Options) (r Result) {
	synctest.Test(t, func(*testing.T) { r = Run(o) })
	return r
}

func TestHistories(t *testing.T) {
	if *replay != 0 {
		replayed(t)
		return
	}
	var failed []Options
	var done, steps, reloads, requests atomic.Uint64
	var virtual atomic.Int64
	var mu sync.Mutex
	var group sync.WaitGroup
	begun := time.Now()
	next := atomic.Uint64{}
	next.Store(*from)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= *from+*seeds {
					return
				}
				r := history(t, Options{Seed: seed, Events: -1})
				steps.Add(uint64(r.Steps))
				reloads.Add(uint64(r.Reloads))
				requests.Add(uint64(r.Requests))
				virtual.Add(int64(r.Virtual))
				if n := done.Add(1); n%5000 == 0 {
					fmt.Printf("%d of %d histories, %s\n", n, *seeds, time.Since(begun).Round(time.Second))
				}
				if len(r.Violations) > 0 {
					mu.Lock()
					failed = append(failed, Options{Seed: seed, Events: r.Events})
					if len(failed) <= 20 {
						t.Errorf("seed %d: %s\nreplay: make sim SEED=%d", seed, r.Violations[0], seed)
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d histories, %s of HAProxy's time in %s: %d steps, %d reloads, %d requests; %d failed", *seeds,
		time.Duration(virtual.Load()).Round(time.Hour), time.Since(begun).Round(time.Millisecond), steps.Load(), reloads.Load(), requests.Load(), len(failed))
}

func replayed(t *testing.T) {
	o := Options{Seed: *replay, Events: *events, Trace: true, Without: map[string]bool{}}
	for _, k := range strings.Split(*kindsX, ",") {
		o.Without[k] = true
	}
	r := history(t, o)
	fmt.Println(strings.Join(r.Trace, "\n"))
	for _, v := range r.Violations {
		t.Error(v)
	}
	t.Logf("%d events of kinds %v", r.Events, slices.Sorted(maps.Keys(o.Without)))
}

func TestOneSeedIsOneHistory(t *testing.T) {
	for seed := range uint64(60) {
		a := history(t, Options{Seed: seed + 1, Events: -1, Trace: true})
		b := history(t, Options{Seed: seed + 1, Events: -1, Trace: true})
		if !slices.Equal(a.Trace, b.Trace) {
			for i := range a.Trace {
				if i >= len(b.Trace) || a.Trace[i] != b.Trace[i] {
					t.Fatalf("seed %d: line %d\n%s\n%s", seed+1, i, a.Trace[i], b.Trace[min(i, len(b.Trace)-1)])
				}
			}
		}
	}
}

package daemon

import (
	"errors"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestSpareMemory_MuchToSpare_IsGivenBackOnceInAWhile(t *testing.T) {
	var spare uint64
	given := 0
	m := spareMemory{spare: func() uint64 { return spare }, free: func() { given++ }, setLimit: func(int) int { return 0 }}
	now := time.Now()
	for _, step := range []struct {
		name  string
		after time.Duration
		spare uint64
		given bool
	}{
		{"little", 0, spareMin - 1, false},
		{"much", 0, spareMin, true},
		{"much again, too soon", spareEvery - 1, spareMin, false},
		{"much again", 1, spareMin, true},
		{"little, a while later", spareEvery, spareMin - 1, false},
	} {
		now = now.Add(step.after)
		was := given
		spare = step.spare
		m.giveBack(now)
		if isGiven := given > was; isGiven != step.given {
			t.Errorf("%s: given back %v, want %v", step.name, isGiven, step.given)
		}
	}
}

func TestBoundGarbage_UnlessGOGCIsSet(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	for _, c := range []struct {
		environ []string
		want    int
	}{
		{[]string{"GOGC=77"}, 77},
		{[]string{"PATH=/bin", "GOGC=off"}, 77},
		{[]string{"GOGC=", "GOGCX=1"}, gcPercent},
		{nil, gcPercent},
	} {
		debug.SetGCPercent(77)
		if isSet := boundGarbage(c.environ); isSet != (c.want == gcPercent) {
			t.Errorf("%q: set %v", c.environ, isSet)
		}
		if got := debug.SetGCPercent(77); got != c.want {
			t.Errorf("%q: GOGC is %d, want %d", c.environ, got, c.want)
		}
	}
}

// Changes have the processor's time; while there are none, memory is worth more.
func TestSpareMemory_LoopIdle_LessGarbageIsKept(t *testing.T) {
	var limits []int
	m := spareMemory{spare: func() uint64 { return 0 }, setLimit: func(percent int) int { limits = append(limits, percent); return 0 }}
	began := time.Now()
	m.use(began)
	m.giveBack(began.Add(gcIdleFrom - 1))
	if len(limits) > 0 {
		t.Errorf("%v%% set while the loop is busy", limits)
	}
	for range 2 {
		m.giveBack(began.Add(gcIdleFrom))
	}
	for range 2 {
		m.use(began.Add(2 * gcIdleFrom))
	}
	m.giveBack(began.Add(2 * gcIdleFrom))
	if !slices.Equal(limits, []int{gcIdle, gcPercent}) {
		t.Errorf("limits %v, want %d%% once and then %d%% once", limits, gcIdle, gcPercent)
	}
	m.keepLimit()
	m.giveBack(began.Add(9 * gcIdleFrom))
	if len(limits) > 2 {
		t.Errorf("the operator's limit was changed: %v", limits)
	}
}

func TestSpareMemory_OfThisProcess_IsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // no collection but those that are asked for
	runtime.GC()                                     // ends one that is under way
	runtime.KeepAlive(make([]byte, 4*spareMin))
	before := spareBytes()
	if before < 4*spareMin {
		t.Errorf("%d bytes to spare, want %d and more", before, 4*spareMin)
	}
	m := newSpareMemory()
	m.keepLimit()
	m.giveBack(time.Now())
	if after := spareBytes(); after > before/2 {
		t.Errorf("%d bytes to spare after they were given back, want far less than %d", after, before)
	}
}

// The loop takes what a comparison has read when it is read, and measures how long that
// took: a collection of all garbage is no part of it.
func TestSpareMemory_OfAComparison_IsGivenBackBesideIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := haproxy.New(haproxy.Options{Runtime: filepath.Join(t.TempDir(), "none.sock"), Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		const long = time.Minute
		p := Proxy{Client: c, spare: &spareMemory{spare: func() uint64 { return spareMin }, free: func() { time.Sleep(long) }, setLimit: func(int) int { return 0 }}}
		began := time.Now()
		if _, err := p.Compare(t.Context(), []string{"web"}); !errors.Is(err, plan.ErrNotRunning) {
			t.Errorf("got %v, want ErrNotRunning", err)
		}
		if took := time.Since(began); took >= long {
			t.Errorf("took %s, as long as to give memory back", took)
		}
		time.Sleep(long) // the bubble's time: it ends
		synctest.Wait()
		if p.spare.last.IsZero() {
			t.Error("nothing was given back")
		}
	})
}

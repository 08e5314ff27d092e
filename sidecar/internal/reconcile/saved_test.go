package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// fakeStore is a snapshot on a disk.
type fakeStore struct {
	mu      sync.Mutex
	saved   []catalog.Saved
	unread  error
	full    error         // the disk is
	slow    chan struct{} // a write takes until it is closed
	saves   []time.Time
	ongoing int
	most    int // that were ongoing at once
}

var _ reconcile.Store = (*fakeStore)(nil)

func (s *fakeStore) Path() string { return "/etc/haproxy/haproxy.cfg.snapshot" }

func (s *fakeStore) Load() ([]catalog.Saved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unread != nil {
		return nil, s.unread
	}
	return slices.Clone(s.saved), nil
}

func (s *fakeStore) Save(saved []catalog.Saved) error {
	s.mu.Lock()
	s.ongoing++
	s.most = max(s.most, s.ongoing)
	slow := s.slow
	s.mu.Unlock()
	if slow != nil {
		<-slow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ongoing--
	if s.full != nil {
		return s.full
	}
	s.saves = append(s.saves, time.Now())
	s.saved = slices.Clone(saved)
	return nil
}

func (s *fakeStore) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// names gives the instances that are saved of each service.
func (s *fakeStore) names() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	for _, one := range s.saved {
		name := strings.TrimSuffix(one.Service.Name, "_nodes")
		out[name] = []string{}
		for _, i := range one.Service.Instances {
			out[name] = append(out[name], i.ID)
		}
	}
	return out
}

func saved(service string, instances ...catalog.Instance) catalog.Saved {
	return catalog.Saved{Answered: time.Unix(1000, 0), Service: catalog.Service{Name: backendOf(service), Known: true, Instances: instances}}
}

func TestTheLastGoodSnapshotIsUsedWhereConsulIsAwayAndHAProxyDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", many(2)...)}}
		b.start()
		b.passes(900 * time.Millisecond)
		if n := b.file.writes(); n != 0 {
			t.Fatalf("got %d writes in the first moment, want none: Consul may still answer", n)
		}
		b.passes(time.Second)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
		b.haproxy.start()
		b.passes(time.Hour)
		s := b.agent.State()
		if svc := s.Services[0]; s.Ready || svc.Known || !svc.Saved.Equal(time.Unix(1000, 0)) {
			t.Errorf("got ready %v, %+v, want not ready, not known, and what was saved", s.Ready, svc)
		}
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		if n := b.log.count("Consul unavailable, using snapshot"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		b.catalog.says("api", instance("api-1", 1))
		b.runs(time.Minute, "api-1 10.0.0.1:4000 ready up")
		if s := b.agent.State(); !s.Ready || !s.Services[0].Known || !s.Services[0].Saved.IsZero() {
			t.Errorf("Consul has answered: got %+v", s.Services[0])
		}
	})
}

func TestTheLastGoodSnapshotChangesNothingThatHAProxyRuns(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.catalog.says("api", many(3)...)
		b.adoptable()
		b.catalog.answers(catalog.Service{Name: "api"})
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", instance("api-1", 1, leaving), instance("api-9", 9))}}
		b.start()
		b.passes(time.Hour)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
		if n := b.file.writes(); n != 0 {
			t.Errorf("got %d writes of haproxy.cfg, want none", n)
		}
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Errorf("got %d reloads, want none", n)
		}
	})
}

func TestWhatConsulSaysIsSavedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		store := &fakeStore{saved: []catalog.Saved{saved("web", instance("web-1", 9)), saved("gone", instance("gone-1", 8))}}
		b.store = store
		b.catalog.says("api", many(1)...)
		b.adoptable()
		b.start()
		for n := range 50 { // 5 s
			b.catalog.says("api", many(2+n)...)
			b.passes(100 * time.Millisecond)
		}
		b.passes(2 * time.Second)
		if n := len(store.saves); n < 4 || n > 7 {
			t.Errorf("got %d writes in 7 s, want about one a second", n)
		}
		got := store.names()
		if n := len(got["api"]); n != 51 {
			t.Errorf("saved %d instances of api, want the 51 of the last answer", n)
		}
		delete(got, "api")
		if diff := cmp.Diff(map[string][]string{"web": {"web-1"}}, got); diff != "" {
			t.Errorf("what Consul has not answered about stays as it was, while it is routed (-want +got):\n%s", diff)
		}
		before := len(store.saves)
		b.passes(time.Hour)
		if n := len(store.saves) - before; n != 0 {
			t.Errorf("got %d writes while nothing was heard, want none", n)
		}
		if s := b.agent.State().Consul.Snapshot; s == nil || !s.Written.Equal(store.saves[before-1]) || s.Path != store.Path() {
			t.Errorf("got %+v, want the last write", s)
		}
	})
}

// Thousands of services are answered about all the time, mostly with nothing new.
func TestAnswersThatBringNothingNewAreSavedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api")
		store := &fakeStore{}
		b.store = store
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(2 * time.Second)
		before := len(store.saves)
		for range 300 { // 5 min
			b.catalog.answersTheSame("api")
			b.passes(time.Second)
		}
		if n := len(store.saves) - before; n < 4 || n > 6 {
			t.Errorf("got %d writes in 5 min, want about one a minute", n)
		}
		b.catalog.says("api", many(3)...)
		b.passes(2 * time.Second)
		if n := len(store.names()["api"]); n != 3 {
			t.Errorf("2 s after a change %d instances are saved, want 3", n)
		}
	})
}

func TestASnapshotThatCannotBeWrittenIsTriedAgainAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		store := &fakeStore{full: errors.New("no space left")}
		b.store = store
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(time.Minute)
		if s := b.agent.State().Consul.Snapshot; s.Error != "no space left" || !s.Written.IsZero() {
			t.Errorf("got %+v, want the error", s)
		}
		if n := b.log.count("snapshot write failed"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
		store.with(func() { store.full = nil })
		b.passes(time.Minute)
		if s := b.agent.State().Consul.Snapshot; s.Error != "" || s.Written.IsZero() {
			t.Errorf("got %+v, want it written", s)
		}
		if n := b.log.count("snapshot write recovered"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
	})
}

func TestASnapshotThatIsDamagedIsNamedAndNoReasonNotToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.store = &fakeStore{unread: errors.New("was damaged, and is kept as x.damaged")}
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		s := b.agent.State()
		if !s.Ready || s.Consul.Snapshot.Damaged != "was damaged, and is kept as x.damaged" || s.Consul.Snapshot.Written.IsZero() {
			t.Errorf("got %v, %+v, want ready, the damage named, and a new one written", s.Ready, s.Consul.Snapshot)
		}
		if n := b.log.count("snapshot load failed", "is kept as x.damaged"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, b.log)
		}
	})
}

func TestASlowDiskHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		store := &fakeStore{slow: make(chan struct{})}
		b.store = store
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		b.catalog.says("api", many(3)...)
		b.runs(200*time.Millisecond, "api-1 10.0.0.1:4000 ready up", "api-2 10.0.0.2:4000 ready up", "api-3 10.0.0.3:4000 ready up")
		b.passes(time.Minute)
		if store.most != 1 {
			t.Errorf("got %d writes at once, want 1", store.most)
		}
		begun := time.Now()
		b.cancel()
		if err := <-b.ended; err != nil || time.Since(begun) != time.Second {
			t.Errorf("Run ended after %s, %v, want a second, nil", time.Since(begun), err)
		}
		b.cancel = nil
		close(store.slow)
		synctest.Wait()
	})
}

// Known defect: with everything critical while HAProxy was not running, the
// file had no servers.
func TestTheFileKeepsWhatAMassLossWouldTakeWhileHAProxyIsAway(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, many(3)...)
		b.haproxy.stop()
		var all []catalog.Instance
		for n := range 3 {
			all = append(all, instance(many(3)[n].ID, n+1, critical))
		}
		b.catalog.says("api", all...)
		b.passes(time.Minute)
		prefix := map[bool]string{false: "slot-", true: "api-"}[dynamic]
		b.wantFile(prefix+"1 10.0.0.1:4000", prefix+"2 10.0.0.2:4000", prefix+"3 10.0.0.3:4000")
		b.haproxy.start()
		b.passes(time.Minute)
		if got := b.ready(); got != 3 {
			t.Errorf("it runs again: %d in traffic, want all that HAProxy sees up", got)
		}
	})
}

func TestWhoHasComeWhileHAProxyIsAwayIsNotLostAtOnceEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		b.haproxy.stop()
		b.catalog.says("api", many(6)...)
		b.passes(time.Minute)
		b.catalog.says("api")
		b.passes(time.Minute)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000", "api-3 10.0.0.3:4000", "api-4 10.0.0.4:4000", "api-5 10.0.0.5:4000", "api-6 10.0.0.6:4000")
	})
}

// HAProxy would start with them, and a sidecar that starts now would take them
// from the file. Known defect: Consul's first answer took them all out at once.
func TestFileOfStoppedHAProxy_SavedInstancesLostInFirstAnswer_Kept(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", many(3)...)}}
		b.start()
		b.passes(2 * time.Second)
		prefix := map[bool]string{false: "slot-", true: "api-"}[dynamic]
		b.wantFile(prefix+"1 10.0.0.1:4000", prefix+"2 10.0.0.2:4000", prefix+"3 10.0.0.3:4000")
		b.catalog.says("api") // its data are lost
		b.passes(time.Minute)
		b.wantFile(prefix+"1 10.0.0.1:4000", prefix+"2 10.0.0.2:4000", prefix+"3 10.0.0.3:4000")
	})
}

// One that was saved, and that Consul has drain or critical by now: only what
// the guard's share allows is taken out.
func TestFileOfStoppedHAProxy_OneSavedInstanceCritical_TakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", many(3)...)}}
		b.start()
		b.passes(2 * time.Second)
		b.catalog.says("api", instance("api-1", 1, critical), instance("api-2", 2), instance("api-3", 3))
		b.passes(time.Minute)
		b.wantFile("api-2 10.0.0.2:4000", "api-3 10.0.0.3:4000")
	})
}

func TestWhoHasMovedWhileHAProxyIsAwayIsKeptWhereItWasLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		b.haproxy.stop()
		for n := 11; n <= 13; n++ {
			b.catalog.says("api", instance("api-1", n), instance("api-2", 2))
			b.passes(time.Minute)
		}
		b.catalog.says("api")
		b.passes(time.Minute)
		b.wantFile("api-2 10.0.0.2:4000", "api-1 10.0.0.13:4000")
	})
}

// Consul forgets it before HAProxy ends: nobody has lost it all the same.
func TestWhoHadSaidThatItLeavesIsNotKeptInTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.catalog.says("api", instance("api-1", 1, leaving))
		b.haproxy.with(func() { b.haproxy.fail = func(plan.Step) error { return errors.New("not now") } }) // it stays in traffic
		b.passes(time.Second)
		b.catalog.says("api")
		b.passes(time.Second)
		b.haproxy.stop()
		b.passes(b.settings.Reconcile + time.Minute)
		b.wantFile()
	})
}

func TestWhoSaidThatItLeavesWhileHAProxyIsAwayIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.haproxy.stop()
		b.catalog.says("api", instance("api-1", 1, leaving), instance("api-2", 2, leaving), instance("api-3", 3, leaving))
		b.passes(time.Minute)
		b.wantFile()
		b.catalog.says("api")
		b.passes(time.Minute)
		b.wantFile()
	})
}

// The sidecar may start beside a HAProxy that has ended with its file.
func TestTheFileTellsANewSidecarWhoTookTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.file.content = []byte("global\n    setenv " + plan.MarkerVariable + " x\nbackend api_nodes\n" +
			"    server api-1 10.0.0.1:4000 weight 1\n    server api-2 10.0.0.2:4000 weight 1\n    server api-3 10.0.0.3:4000 weight 1 disabled\n")
		b.catalog.says("api", instance("api-1", 1, critical), instance("api-2", 2, critical), instance("api-3", 3, critical))
		b.start()
		b.passes(time.Minute)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
	})
}

// All servers are out, and the snapshot on disk is of before that.
func TestWhatWasSavedDoesNothingWhileConsulMayStillAnswer(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.adoptable() // with nobody in it
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", many(2)...)}}
		b.start()
		b.passes(900 * time.Millisecond)
		b.catalog.says("api")
		b.passes(time.Minute)
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing", got)
		}
	})
}

func TestWhatWasSavedFillsABackendWithoutServersOnceConsulIsLate(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.adoptable()
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", many(2)...)}}
		b.start()
		name := map[bool]string{false: "slot-", true: "api-"}[dynamic]
		b.runs(2*time.Second, name+"1 10.0.0.1:4000 ready up", name+"2 10.0.0.2:4000 ready up")
	})
}

// Nobody may know better in a moment, so the reload waits for that.
func TestAReloadForWhatWasSavedWaitsForConsul(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, false)
		b.settings.Services[0].Slots, b.settings.Services[0].Spare = 0, 0
		b.adoptable()
		b.store = &fakeStore{saved: []catalog.Saved{saved("api", many(2)...)}}
		b.start()
		b.passes(5 * time.Second)
		if n := len(b.haproxy.reloadTimes()); n != 0 {
			t.Fatalf("got %d reloads, want none yet", n)
		}
		b.passes(20 * time.Second)
		if n := len(b.haproxy.reloadTimes()); n != 1 {
			t.Errorf("got %d reloads, want one: Consul is away for long", n)
		}
	})
}

func TestWhatIsNewIsSavedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		store := &fakeStore{}
		b.store = store
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		b.catalog.says("api", many(1)...)
		b.passes(10 * time.Millisecond)
		b.stop()
		if diff := cmp.Diff(map[string][]string{"api": {"api-1"}}, store.names()); diff != "" {
			t.Errorf("saved (-want +got):\n%s", diff)
		}
	})
}

// Consul answers between the look at what it says and the look at when it said it.
func TestAnAnswerThatComesWhileTheOneBeforeIsSavedIsSavedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		store := &fakeStore{}
		b.store = store
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(5 * time.Second)
		b.catalog.says("api", many(3)...)
		b.passes(500 * time.Millisecond) // the save is due half a second later, in a pass of its own
		b.catalog.with(func() { b.catalog.afterSnapshot = func() { b.catalog.says("api", many(1)...) } })
		b.passes(2 * time.Minute)
		if diff := cmp.Diff(map[string][]string{"api": {"api-1"}}, store.names()); diff != "" {
			t.Errorf("saved (-want +got):\n%s", diff)
		}
	})
}

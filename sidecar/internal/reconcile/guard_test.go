package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// loseOneByOne makes n instances critical, a second apart, except for those that
// are and those that stay well.
func (b *bench) loseOneByOne(are, lost, n int) {
	all := many(n)
	for i := range lost {
		all[i].Health = catalog.Critical
		if i < are {
			continue
		}
		b.catalog.says("api", slices.Clone(all)...)
		b.passes(time.Second)
	}
}

// ready is how many servers HAProxy has in traffic.
func (b *bench) ready() (n int) {
	for _, s := range b.haproxy.shows("api_nodes") {
		if strings.Contains(s, " ready up") {
			n++
		}
	}
	return n
}

// A Consul agent beside the nodes that restarts: criticals trickle in.
func TestLossesThatTrickleInAreHeldAsIfTheyCameAtOnce(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, many(10)...)
		b.loseOneByOne(0, 9, 10)
		b.passes(time.Hour)
		if got := b.ready(); got != 5 {
			t.Errorf("%d servers are in traffic, want the half that may not be lost: %q", got, b.haproxy.shows("api_nodes"))
		}
		g := b.agent.State().Services[0].Guard
		if len(g.Held) != 4 || g.Since.IsZero() || !g.Until.IsZero() {
			t.Errorf("got %+v, want four held, without end", g)
		}
		if n := b.log.count("mass removal blocked"); n != 4 {
			t.Errorf("got %d lines for four transitions:\n%s", n, b.log)
		}
		b.catalog.says("api", many(10)...)
		b.passes(time.Minute)
		if got := b.ready(); got != 10 {
			t.Errorf("all are well: %d in traffic, want 10", got)
		}
		if g := b.agent.State().Services[0].Guard; len(g.Held) != 0 || !g.Since.IsZero() {
			t.Errorf("got %+v, want nothing held", g)
		}
		if n := b.log.count("guard holds no servers"); n != 1 {
			t.Errorf("got %d lines at the end, want 1:\n%s", n, b.log)
		}
	})
}

func TestAHoldEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.settings.Services[0].Hold = 5 * time.Minute
		b.settings.Reconcile = time.Hour // the end comes of itself
		b.catalog.says("api", many(4)...)
		b.adoptable()
		b.start()
		b.passes(time.Second)
		b.loseOneByOne(0, 3, 4)
		g := b.agent.State().Services[0].Guard
		if len(g.Held) != 1 || g.Until.Sub(g.Since) != 5*time.Minute {
			t.Fatalf("got %+v, want one held for five minutes", g)
		}
		b.passes(time.Until(g.Until) - time.Second)
		if got := b.ready(); got != 2 {
			t.Errorf("before its end: %d in traffic, want 2", got)
		}
		b.passes(2 * time.Second)
		if got := b.ready(); got != 1 {
			t.Errorf("after its end: %d in traffic, want 1", got)
		}
	})
}

func TestGuardState_AllHeldAreDeregistered_UntilIsTheirTime(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := newBench(t, dynamic)
		b.settings.Services[0].HoldDeregistered = 10 * time.Minute
		all := many(4)
		b.catalog.says("api", all...)
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		b.catalog.says("api", all[0])
		b.passes(time.Minute)
		g := b.agent.State().Services[0].Guard
		if len(g.Held) != 3 || g.Until.Sub(g.Since) != 10*time.Minute {
			t.Fatalf("got %+v, want 3 held until 10 minutes after their loss", g)
		}
		b.passes(time.Until(g.Until) - time.Second)
		if got := b.ready(); got != 4 {
			t.Errorf("a second before: %d in traffic, want 4", got)
		}
		b.passes(2 * time.Second)
		if got := b.ready(); got != 1 {
			t.Errorf("a second after: %d in traffic, want 1", got)
		}
	})
}

func TestGuard_ReleasedByBackend_HeldServersGoAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(10)...)
		b.loseOneByOne(0, 7, 10)
		if got, err := b.agent.Release(t.Context(), "nothing"); !errors.Is(err, reconcile.ErrNotRouted) {
			t.Errorf("got %q and %v, want no such service", got, err)
		}
		got, err := b.agent.Release(t.Context(), "api_nodes")
		if diff := cmp.Diff([]string{"api_nodes/api-6", "api_nodes/api-7"}, got); diff != "" || err != nil {
			t.Errorf("released (-want +got), error %v:\n%s", err, diff)
		}
		b.passes(time.Second)
		if got := b.ready(); got != 3 {
			t.Errorf("%d in traffic, want 3", got)
		}
		if g := b.agent.State().Services[0].Guard; len(g.Held) != 0 {
			t.Errorf("got %+v, want nothing held", g)
		}
		b.loseOneByOne(7, 8, 10)
		if got := b.ready(); got != 3 {
			t.Errorf("one more is lost: %d in traffic, want it held", got)
		}
	})
}

// With nothing held there is nothing to warn of, nor a null for programs.
func TestGuard_ReleasedWithNothingHeld_NoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		if got, err := b.agent.Release(t.Context(), "api"); err != nil || got == nil || len(got) > 0 {
			t.Errorf("released %#v, error %v, want an empty list", got, err)
		}
		if log := b.log.String(); strings.Contains(log, "guard released") {
			t.Errorf("log: got %s, want no release", log)
		}
	})
}

// What was released stays so though HAProxy does not take it at first.
func TestGuard_ReleasedWhileHAProxyIsUnread_StaysReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(4)...)
		b.loseOneByOne(0, 3, 4)
		b.haproxy.with(func() { b.haproxy.unread = errors.New("no") })
		if _, err := b.agent.Release(t.Context(), "api"); err != nil {
			t.Fatal(err)
		}
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.unread = nil })
		b.passes(time.Minute)
		if got := b.ready(); got != 1 {
			t.Errorf("%d in traffic, want 1", got)
		}
	})
}

func TestReleaseTellsWhatItCannotDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(2)...)
		if got, err := b.agent.Release(t.Context(), "web"); !errors.Is(err, reconcile.ErrNotRouted) {
			t.Errorf("a service that is not routed: got %q, %v", got, err)
		}
		if got, err := b.agent.Release(t.Context(), "api"); got == nil || len(got) != 0 || err != nil {
			t.Errorf("nothing is held: got %#v, %v, want an empty list", got, err)
		}
		b.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.agent.Release(ctx, "api"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end of the agent: got %v, want that its time is over", err)
		}
	})
}

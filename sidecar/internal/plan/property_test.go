package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// midway draws a HAProxy on its way from one catalog to another, changed by
// someone else, and the catalog.
func midway(t *rapid.T) (*model, catalog.Snapshot) {
	m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: backend})
	if err := settle(m, desired(), known("api", genInstances(t, "before")...), nil); err != nil {
		t.Fatal(err)
	}
	genDrift(t, m)
	snap := known("api", genInstances(t, "after", 0)...)
	for range rapid.IntRange(0, 3).Draw(t, "passes") {
		p := plan.Compute(desired(), m.observed(), snap)
		for _, st := range p.Steps {
			if err := m.apply(st); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m, snap
}

func TestComputeGivesTheSamePlanForTheSameArguments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, snap := midway(t)
		want := fmt.Sprintf("%+v", plan.Compute(desired(), m.observed(), snap))
		for range 5 { // Go shuffles a map's order on every range
			if got := fmt.Sprintf("%+v", plan.Compute(desired(), m.observed(), snap)); got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
		}
	})
}

func TestComputeDoesNotChangeItsArguments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, snap := midway(t)
		o, d := m.observed(), desired()
		b := o.Backends[backend]
		slices.Reverse(b.Servers) // so that sorting in place would show
		b.Left = plan.Compute(d, m.observed(), snap).File[0].Servers
		o.Backends[backend] = b
		before := fmt.Sprintf("%+v %+v %+v", d, o, snap)
		p := plan.Compute(d, o, snap)
		// Nor does the plan share what its reader may change.
		for _, placed := range p.Placed {
			for i := range placed {
				placed[i].Instance.ID = "changed"
			}
		}
		for i := range p.File[0].Servers {
			p.File[0].Servers[i].Name = "changed"
		}
		if after := fmt.Sprintf("%+v %+v %+v", d, o, snap); after != before {
			t.Fatalf("got\n%s\nwant\n%s", after, before)
		}
	})
}

// A settled decision needs not be made again until something changes: that time goes
// by changes nothing.
func TestDecision_Settled_IsTheSameAtAnyLaterTime(t *testing.T) {
	settled := 0
	rapid.Check(t, func(t *rapid.T) {
		m, snap := midway(t)
		for range rapid.IntRange(0, 8).Draw(t, "rounds") {
			for _, st := range plan.Compute(desired(), m.observed(), snap).Steps {
				_ = m.apply(st)
			}
			m.pass(time.Second)
		}
		d, o := desired(), m.observed()
		o.Backends[backend] = plan.Backend{Servers: o.Backends[backend].Servers, Left: plan.Compute(d, o, snap).File[0].Servers}
		all := func() (out []*plan.Decision) {
			for _, s := range d.Services {
				out = append(out, plan.Decide(s, o, snap.Service(s.Backend)))
			}
			return out
		}
		now := all()
		if slices.ContainsFunc(now, func(d *plan.Decision) bool { return !d.IsSettled() }) {
			return
		}
		settled++
		want := fmt.Sprintf("%+v", plan.Combine(d, o, now))
		later := time.Duration(rapid.IntRange(0, 100_000).Draw(t, "later")) * time.Second
		for _, b := range o.Backends {
			for i := range b.Servers {
				b.Servers[i].SinceChange += later
			}
		}
		if got := fmt.Sprintf("%+v", plan.Combine(d, o, all())); got != want {
			t.Fatalf("%s later got\n%s\nwant\n%s", later, got, want)
		}
	})
	if settled == 0 {
		t.Error("no decision was settled")
	}
}

// The file of a settled HAProxy may be loaded at any time, by anybody: no route
// is another afterwards, and all that is left to do is to begin again the
// drains, which the file has no word for.
func TestLoadingTheFileOfASettledHAProxyChangesNoRoute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: backend})
		for k := range rapid.IntRange(1, 3).Draw(t, "rounds") {
			snap := known("api", genInstances(t, fmt.Sprintf("round %d", k))...)
			if err := settle(m, desired(), snap, nil); err != nil {
				t.Fatal(err)
			}
			before := routesOf(m)
			m.load(ours, plan.Compute(desired(), m.observed(), snap).File)
			if diff := cmp.Diff(before, routesOf(m)); diff != "" {
				t.Fatalf("loading the file changed the routes (-before +after):\n%s", diff)
			}
			p := plan.Compute(desired(), m.observed(), snap)
			if p.Reload != plan.NoReload {
				t.Fatalf("got a reload, %s, want none", p.Reload)
			}
			for _, st := range p.Steps {
				if st.Kind != plan.SetDrain || st.Reason == plan.Drift {
					t.Fatalf("got %s, want drains only", printStep(st))
				}
			}
			if err := settle(m, desired(), snap, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, routesOf(m)); diff != "" {
				t.Fatalf("what came after the load changed the routes (-before +after):\n%s", diff)
			}
		}
	})
}

// No node is held back permanently: a node that is to leave, while others stay, is
// out at its deadline and the time that its replacements have to come up.
func TestALeavingInstanceIsOutInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, snap := midway(t)
		for n := range 10 {
			m.nodes[addr(n)] = rapid.Bool().Draw(t, fmt.Sprintf("node %d answers", n))
		}
		d := desired()
		s := d.Services[0]
		// Each of at most six servers may have to wait for another's time.
		bound := 6*(s.ReplacementTimeout+s.DrainTimeout) + time.Minute
		for range int(bound / time.Second) {
			p := plan.Compute(d, m.observed(), snap)
			for _, st := range p.Steps {
				if err := m.apply(st); err != nil {
					t.Fatal(err)
				}
			}
			if p.Reload != plan.NoReload {
				m.load(d.Marker, p.File)
			}
			m.pass(time.Second)
		}
		p := plan.Compute(d, m.observed(), snap)
		for _, pl := range p.Placed[backend] {
			for _, srv := range m.servers(backend) {
				if srv.Name == pl.Server && !pl.Instance.Leaving.IsZero() && srv.Admin != plan.Maint {
					t.Fatalf("after %s %s, which leaves, is still in %s: %v", bound, srv.Name, srv.Admin, printPlan(p))
				}
			}
		}
	})
}

// Instances that move to addresses where nothing answers yet take no server out
// who still serves: not before a replacement has had its time.
func TestAMoveToAddressesThatDoNotAnswerLeavesAServerToServe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: backend})
		n := rapid.IntRange(2, 6).Draw(t, "instances")
		var before, after []catalog.Instance
		for k := range n {
			id := fmt.Sprintf("api-%d", k)
			before = append(before, instance(id, k))
			to := rapid.SampledFrom([]int{k, 100 + k}).Draw(t, id+" moves to")
			after = append(after, instance(id, to))
			m.nodes[addr(100+k)] = rapid.Bool().Draw(t, id+" answers there")
		}
		if err := settle(m, desired(), known("api", before...), nil); err != nil {
			t.Fatal(err)
		}
		snap := known("api", after...)
		for range desired().Services[0].ReplacementTimeout/time.Second - 1 {
			p := plan.Compute(desired(), m.observed(), snap)
			for _, st := range p.Steps {
				if err := m.apply(st); err != nil {
					t.Fatal(err)
				}
				if m.serving(backend) == 0 {
					t.Fatalf("no server serves after %s: %v", printStep(st), printServers(m.servers(backend)))
				}
			}
			if p.Reload != plan.NoReload {
				m.load(ours, p.File)
			}
			m.pass(time.Second)
		}
	})
}

// However the losses trickle in, and whatever the checks of HAProxy say: no
// more of those that serve than the operator's share go within the window.
func TestNoMoreThanTheShareIsLostWithinTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := desired()
		s := &d.Services[0]
		s.Window = 30 * time.Second
		s.MinServers = 0
		s.MaxLossRatio = rapid.SampledFrom([]float64{0, 0.25, 0.5, 0.75}).Draw(t, "share")
		m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: backend})
		n := rapid.IntRange(1, 10).Draw(t, "instances")
		all := make([]catalog.Instance, n)
		for k := range all {
			all[k] = instance(fmt.Sprintf("api-%d", k), k)
		}
		if err := settle(m, d, known("api", all...), nil); err != nil {
			t.Fatal(err)
		}
		guard, allowed := plan.Guard{}, max(1, int(s.MaxLossRatio*float64(n)))
		for left := 29; left > 0; {
			for range rapid.IntRange(1, 3).Draw(t, "lost at once") {
				all[rapid.IntRange(0, n-1).Draw(t, "lost")].Health = catalog.Critical
			}
			o := m.observed()
			o.Guards = map[string]plan.Guard{backend: guard}
			p := plan.Compute(d, o, known("api", slices.Clone(all)...))
			for _, st := range p.Steps {
				if err := m.apply(st); err != nil {
					t.Fatal(err)
				}
			}
			if gone := n - m.serving(backend); gone > allowed {
				t.Fatalf("%d of %d are gone, want %d at most: %v", gone, n, allowed, printPlan(p))
			}
			guard = remember(guard, p)
			wait := rapid.IntRange(1, 10).Draw(t, "seconds")
			m.pass(time.Duration(wait) * time.Second)
			guard, left = later(guard, time.Duration(wait)*time.Second), left-wait
		}
	})
}

// Whatever the state, one plan takes every server away from the address of an
// instance that lacks a tag, and no guard, replacement or min_servers holds it.
func TestRoleLost_AnyState_NoServerTakesNewConnectionsAtItsAddress(t *testing.T) {
	lost := 0
	rapid.Check(t, func(t *rapid.T) {
		m, snap := midway(t)
		svc, tagged := snap.Service(backend), map[netip.AddrPort]bool{}
		svc.Instances = slices.DeleteFunc(slices.Clone(svc.Instances), func(i catalog.Instance) bool {
			if rapid.Bool().Draw(t, "untagged "+i.ID) {
				svc.Untagged = append(svc.Untagged, catalog.Instance{ID: i.ID, Node: i.Node, Server: i.Server, Addr: i.Addr})
				return true
			}
			tagged[i.Addr] = true
			return false
		})
		snap = snap.With(svc)
		for _, st := range plan.Compute(desired(), m.observed(), snap).Steps {
			if err := m.apply(st); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range svc.Untagged {
			for _, s := range m.o.Backends[backend].Servers {
				if s.Addr == i.Addr && !tagged[i.Addr] {
					lost++
					if s.Admin != plan.Maint {
						t.Fatalf("%s has lost its role, and %s is in %s", i.ID, s.Name, s.Admin)
					}
				}
			}
		}
	})
	if lost == 0 {
		t.Error("no instance with a server lost its role")
	}
}

package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// An address is on its way to a slot when Consul has another instance, that comes before
// the slot's. In a large service each turn begins with what was read in the one before.
func TestMove_OtherInstanceComesWhileAddressIsUnderWay_SlotKeepsItAndIsReadyOnlyThere(t *testing.T) {
	for _, delay := range []time.Duration{3 * time.Millisecond, 30 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, false)
				b.large, b.turnSteps = 1, 16
				b.catalog.says("api", instance("api-9", 9))
				b.adoptable()
				b.start()
				b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
				b.haproxy.with(func() {
					b.haproxy.addrDelay = delay
					b.haproxy.swallow = func(st plan.Step) bool {
						s := b.haproxy.server("api_nodes", st.Server)
						if s.tick(b.haproxy); st.Kind == plan.SetReady && s.next.IsValid() {
							t.Errorf("%s is made ready at %s, and is about to have %s", st.Server, s.Addr, s.next)
						}
						return false
					}
				})
				b.catalog.says("api", instance("api-2", 2), instance("api-9", 9))
				b.eventually("the address is sent", time.Second, func() bool { return len(b.haproxy.steps()) == 1 })
				b.catalog.says("api", instance("api-1", 1), instance("api-2", 2), instance("api-9", 9))
				b.runs(15*time.Second, "slot-1 10.0.0.9:4000 ready up", "slot-2 10.0.0.2:4000 ready up", "slot-3 10.0.0.1:4000 ready up")
			})
		})
	}
}

// Another address that never shows was waited for in the same pass.
func TestMove_AnotherAddressNeverShows_EachIsWaitedForByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, false)
		b.catalog.says("api", instance("api-9", 9))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		lost := ""
		b.haproxy.with(func() {
			b.haproxy.addrDelay = 10 * time.Millisecond
			b.haproxy.swallow = func(st plan.Step) bool {
				s := b.haproxy.server("api_nodes", st.Server)
				s.tick(b.haproxy)
				switch {
				case st.Kind == plan.SetAddr && s.next.IsValid():
					t.Errorf("%s is sent %s, and is about to have %s", st.Server, st.Addr, s.next)
				case st.Kind == plan.SetAddr && lost == "":
					lost = st.Server
					return true
				}
				return false
			}
		})
		b.catalog.says("api", instance("api-2", 2), instance("api-9", 9))
		b.runs(15*time.Second, "slot-1 10.0.0.9:4000 ready up", "slot-2 10.0.0.2:4000 ready up")
		if lost == "" {
			t.Error("no address was lost")
		}
	})
}

package reconcile_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestASidecarIsReadyWhileItReachesHAProxy(t *testing.T) {
	for name, c := range map[string]struct {
		away, back func(h *fakeHAProxy)
		why        string
	}{
		"frozen": {
			func(h *fakeHAProxy) { h.unread = errors.New("no complete answer within 3s") },
			func(h *fakeHAProxy) { h.unread = nil }, "no complete answer within 3s",
		},
		"gone": {
			func(h *fakeHAProxy) { h.running = false },
			func(h *fakeHAProxy) { h.running = true }, "no process answers there",
		},
	} {
		t.Run(name, inTime(func(t *testing.T) {
			b := serving(t, true, instance("api-1", 1))
			b.passes(time.Minute)
			b.haproxy.with(func() { c.away(b.haproxy) })
			b.passes(b.settings.Reconcile + 4*time.Second) // a restart takes less
			if s := b.agent.State(); !s.Ready || s.NotReady != "" || s.HAProxy.Running {
				t.Errorf("after a moment: got ready %v, %q, running %v, want ready still", s.Ready, s.NotReady, s.HAProxy.Running)
			}
			b.passes(12 * time.Second)
			s := b.agent.State()
			if s.Ready || !strings.Contains(s.NotReady, c.why) {
				t.Errorf("got ready %v, %q, want not, and why", s.Ready, s.NotReady)
			}
			if _, routed := s.Drain("another", "web-1"); routed {
				t.Error("it no longer knows what it does not route")
			}
			b.haproxy.with(func() { c.back(b.haproxy) })
			b.eventually("ready again", b.settings.Reconcile+time.Second, func() bool { s := b.agent.State(); return s.Ready && s.NotReady == "" })
		}))
	}
}

func TestASidecarStaysReadyWithoutConsul(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.catalog.fails("api", errors.New("no leader"))
		b.passes(time.Hour)
		if s := b.agent.State(); !s.Ready || s.Consul.Reachable {
			t.Errorf("got ready %v, Consul reachable %v, want ready without it", s.Ready, s.Consul.Reachable)
		}
	})
}

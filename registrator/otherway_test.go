package registrator_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/registrator"
)

// Issue 14: a sidecar whose own Consul fails answers, and never hears of the mark.
func TestHandshake_SidecarWithoutConsul_IsNotWaitedForToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		deaf := newSidecar("lb0").drainsIn(0, 0)
		deaf.index = 0
		l.with("lb0", lb0At, deaf.ServeHTTP)
		const wait = registrator.DefaultLeaveWait
		l.leavesWithin(t, 3*wait, 3*wait+registrator.AskWait, "lb0 waited")
		if !strings.Contains(l.log.String(), "has not received the leaving mark from Consul") {
			t.Errorf("log: want why, got\n%s", &l.log)
		}
	})
}

// One that knows of the mark has what time the drain takes, though the index of
// Consul runs away from it: other instances change all the while.
func TestHandshake_SidecarBehindAFlood_IsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		slow := newSidecar("lb0").drainsIn(21*time.Second, 2)
		slow.index = 0
		l.with("lb0", lb0At, slow.ServeHTTP)
		for n := range 40 {
			time.AfterFunc(time.Duration(n)*time.Second, func() { l.change(func() {}) })
		}
		for at, index := range map[time.Duration]func(now uint64) uint64{
			1500 * time.Millisecond: func(now uint64) uint64 { return now }, // the mark, and from there on it hears nothing
			21 * time.Second:        func(uint64) uint64 { return 1 << 60 },
		} {
			time.AfterFunc(at, func() {
				l.agentFake.mu.Lock()
				now := l.index
				l.agentFake.mu.Unlock()
				slow.becomes(func() { slow.index = index(now) })
			})
		}
		l.leavesWithin(t, 20*time.Second, 21*time.Second, "lb0 drained")
	})
}

// The mark has a large index. Consul loses its data, and counts from the beginning: what
// a sidecar answers then is no old knowledge.
func TestHandshake_ConsulLosesItsIndexes_DrainIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.index = 500
		s := newSidecar("lb0").drainsIn(21*time.Second, 1)
		l.with("lb0", lb0At, s.ServeHTTP)
		time.AfterFunc(2*time.Second, func() {
			l.change(func() { l.index = 20 })
			s.becomes(func() { s.index = 21 })
		})
		l.leavesWithin(t, 20*time.Second, 20*time.Second, "lb0 drained")
	})
}

// Issue 14: what tells HAProxy itself. While the sidecars answer they decide, since a
// server may have to stay until its replacement is up.
func TestAgentCheck_SidecarsAndConsul_SaysStoppedOnlyWithoutThem(t *testing.T) {
	const stays, leaves = "up\n", "stopped #leaving\n"
	busy := func(l *leaver) { l.with("lb0", lb0At, newSidecar("lb0").drainsIn(21*time.Second, 1).ServeHTTP) }
	fromLB1 := func(set func(*leaver)) func(*leaver) {
		return func(l *leaver) {
			set(l)
			l.agentFrom = "192.0.2.2"
			l.with("lb1", lb1At, newSidecar("lb1").drainsIn(21*time.Second, 1).ServeHTTP)
		}
	}
	killed := func(l *leaver) { l.known(balancer("lb0", lb0At)) }
	stillUp := map[time.Duration]string{100 * time.Millisecond: stays, 10 * time.Second: stays, 20*time.Second + time.Millisecond: leaves}
	for name, c := range map[string]struct {
		set  func(*leaver)
		want map[time.Duration]string
	}{
		"all is well": {busy, map[time.Duration]string{0: stays, 19 * time.Second: stays, 20*time.Second + time.Millisecond: leaves}},
		"a sidecar is killed": {
			killed,
			map[time.Duration]string{100 * time.Millisecond: stays, 600 * time.Millisecond: leaves},
		},
		"one restarts and answers again in time": {
			func(l *leaver) {
				killed(l)
				l.agentFrom = "192.0.2.1"
				time.AfterFunc(1900*time.Millisecond, func() { l.put(lb0At, newSidecar("lb0").drainsIn(19100*time.Millisecond, 1).ServeHTTP) })
			},
			map[time.Duration]string{600 * time.Millisecond: leaves, 10 * time.Second: stays, 20*time.Second + time.Millisecond: leaves},
		},
		"another's is killed": {fromLB1(killed), stillUp},
		"another's wants a token": {fromLB1(func(l *leaver) {
			l.with("lb0", lb0At, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		}), stillUp},
		"another's registration cannot be read": {fromLB1(func(l *leaver) {
			e := balancer("lb0", lb0At)
			e.Service.Port = -1
			l.known(e)
		}), stillUp},
		"Consul is slow": {fromLB1(func(l *leaver) { l.lag = 700 * time.Millisecond }), map[time.Duration]string{600 * time.Millisecond: leaves, time.Second: stays, 20*time.Second + time.Millisecond: leaves}},
		"two are at its address, one killed": {
			fromLB1(func(l *leaver) { l.known(balancer("lb0", "192.0.2.2:9601")) }),
			map[time.Duration]string{100 * time.Millisecond: stays, 600 * time.Millisecond: leaves, 10 * time.Second: leaves},
		},
		"a sidecar is frozen": {
			func(l *leaver) {
				l.known(balancer("lb0", lb0At))
				l.raw[lb0At] = func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
			},
			map[time.Duration]string{400 * time.Millisecond: stays, 600 * time.Millisecond: leaves},
		},
		"one is frozen, another has sessions": {
			func(l *leaver) {
				busy(l)
				l.known(balancer("lb1", lb1At))
				l.raw[lb1At] = func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
			},
			map[time.Duration]string{600 * time.Millisecond: leaves},
		},
		"a sidecar's Consul fails": {
			func(l *leaver) {
				deaf := newSidecar("lb0").drainsIn(0, 0)
				deaf.index = 0
				l.with("lb0", lb0At, deaf.ServeHTTP)
			},
			map[time.Duration]string{100 * time.Millisecond: stays, 5100 * time.Millisecond: leaves},
		},
		"there is no sidecar":  {func(*leaver) {}, map[time.Duration]string{100 * time.Millisecond: leaves}},
		"none is to be asked":  {func(l *leaver) { l.config.Sidecars.Off = true }, map[time.Duration]string{100 * time.Millisecond: leaves}},
		"Consul's list hangs":  {func(l *leaver) { l.lag = time.Hour }, map[time.Duration]string{400 * time.Millisecond: stays, 600 * time.Millisecond: leaves}},
		"it has ended already": {func(l *leaver) { busy(l); l.config.LeaveTimeout = registrator.DefaultLeaveWait }, map[time.Duration]string{registrator.DefaultLeaveWait + time.Millisecond: leaves}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				c.set(l)
				l.agentAt = make(map[time.Duration]string)
				for at := range c.want {
					l.agentAt[at] = ""
				}
				_, _ = l.leaves(t, t.Context())
				time.Sleep(time.Second) // the last look
				synctest.Wait()
				if diff := cmp.Diff(l.agentAt, c.want); diff != "" {
					t.Errorf("(-got +want):\n%s\nlog:\n%s", diff, &l.log)
				}
			})
		})
	}
}

package reconcile_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Known defect: with everything critical while HAProxy was not running, the
// file had no servers.
func TestFileOfStoppedHAProxy_MassLoss_Kept(t *testing.T) {
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

func TestFileOfStoppedHAProxy_NewcomersLost_Kept(t *testing.T) {
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

func TestFileOfStoppedHAProxy_MovedInstanceLost_KeptWhereItWasLast(t *testing.T) {
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

// Another HAProxy that ends while it is read has been seen to serve.
func TestFileOfStoppedHAProxy_EndsWhileItIsFirstRead_KeepsWhoTookTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api", many(2)...)
		b.catalog.says("web", instance("web-1", 9))
		b.adoptable()
		b.start()
		b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
		before := b.file.content
		b.catalog.says("api", instance("api-2", 2))
		b.runs(time.Minute, "api-2 10.0.0.2:4000 ready up")

		b.haproxy.startWith(before)
		b.haproxy.with(func() { b.haproxy.observeTakes = 50 * time.Millisecond })
		b.catalog.says("api")
		b.passes(75 * time.Millisecond) // it has read api, and reads all now
		b.haproxy.stop()
		b.passes(time.Minute)
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
	})
}

// Consul forgets it before HAProxy ends: it is no loss all the same.
func TestFileOfStoppedHAProxy_LeftBeforeItStopped_NotKept(t *testing.T) {
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

func TestFileOfStoppedHAProxy_LeftMeanwhile_NotKept(t *testing.T) {
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
func TestFileOfStoppedHAProxy_NewSidecar_KeepsWhoTookTraffic(t *testing.T) {
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

// A server that was down may be up when HAProxy starts, and Consul has not said
// who belongs there.
func TestFileOfStoppedHAProxy_ConsulSilent_ServersThatWereDownStay(t *testing.T) {
	inBothModes(t, func(t *testing.T, dynamic bool) {
		b := serving(t, dynamic, many(3)...)
		b.stop()
		b.haproxy.with(func() { b.haproxy.nodes[addr(2)] = false })
		b.catalog.answers(catalog.Service{Name: "api"})
		b.start()
		b.passes(b.settings.Reconcile + time.Minute)
		b.haproxy.stop()
		b.passes(time.Minute)
		prefix := map[bool]string{false: "slot-", true: "api-"}[dynamic]
		b.wantFile(prefix+"1 10.0.0.1:4000", prefix+"2 10.0.0.2:4000", prefix+"3 10.0.0.3:4000")
	})
}

// Consul has said that they are gone: a server that was down is no loss.
func TestFileOfStoppedHAProxy_ConsulAnswers_ServersThatWereDownGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, many(3)...)
		b.haproxy.with(func() { b.haproxy.nodes[addr(2)], b.haproxy.nodes[addr(3)] = false, false })
		b.passes(b.settings.Reconcile + time.Minute)
		b.haproxy.stop()
		b.catalog.says("api", many(1)...)
		b.passes(time.Minute)
		b.wantFile("api-1 10.0.0.1:4000")
	})
}

package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// discovering is a bench of api and of shop, which is discovered: HAProxy 3.4 has no backend
// for it yet.
func discovering(t *testing.T, with ...func(*bench)) *bench {
	t.Helper()
	b := newBench(t, true, "api")
	for _, do := range with {
		do(b)
	}
	b.haproxy.caps = plan.Capabilities{Version: "3.4.7", Dynamic: true, Backends: true}
	b.settings.ReloadInterval = time.Second
	b.catalog.says("api", instance("api-1", 1))
	b.catalog.says("shop", instance("shop-1", 2))
	b.adoptable()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	return b
}

// discover has the settings with shop, or with shop as one that has gone.
func (b *bench) discover(isGone bool) {
	shop := policyOf("shop")
	shop.Defaults, shop.Mode, shop.Gone = "pointsman.profile.web", "http", isGone
	b.settings.Services = []plan.Service{policyOf("api"), shop}
	b.settings.Automatic = true
	b.agent.Reconfigure(b.settings)
}

// sentOf counts the commands of a kind.
func (b *bench) sentOf(k plan.Kind) (n int) {
	for _, line := range b.haproxy.steps() {
		if strings.HasPrefix(line, string(k)+" ") {
			n++
		}
	}
	return n
}

func refusing(kind plan.Kind, with error) func(plan.Step) error {
	return func(st plan.Step) error {
		if st.Kind == kind {
			return fmt.Errorf("haproxy: %s %s: %w", st.Kind, st.Backend, with)
		}
		return nil
	}
}

// What HAProxy refuses to do with a backend is sent once, logged once, and done by one
// reload, which says why.
func TestBackend_RefusedAtRuntime_DoneByOneReload(t *testing.T) {
	refused := fmt.Errorf("%w: words of HAProxy", plan.ErrBackendRefused)
	for _, c := range []struct {
		kind   plan.Kind
		isGone bool
		reason plan.ReloadReason
	}{
		{plan.AddBackend, false, plan.ServiceAdded},
		{plan.PublishBackend, false, plan.ServiceAdded},
		{plan.UnpublishBackend, true, plan.ServiceRemoved},
		{plan.DeleteBackend, true, plan.ServiceRemoved},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := discovering(t)
				if c.isGone {
					b.discover(false)
					b.eventually("shop is there", 10*time.Second, func() bool { return len(b.haproxy.shows("shop_nodes")) == 1 })
					b.passes(time.Second)
				}
				b.haproxy.with(func() { b.haproxy.fail, b.haproxy.holdLoad = refusing(c.kind, refused), make(chan struct{}) })
				b.discover(c.isGone)
				b.eventually("a reload is under way", 10*time.Second, func() bool { return b.agent.State().Reloads.UnderWay })
				b.passes(time.Second)
				want := []plan.ReloadCause{{Backend: "shop_nodes", Why: fmt.Sprintf("haproxy: %s shop_nodes: %v", c.kind, refused)}}
				if diff := cmp.Diff(want, b.agent.State().Reloads.For); diff != "" {
					t.Errorf("the reload is for (-want +got):\n%s", diff)
				}
				b.haproxy.with(func() { close(b.haproxy.holdLoad); b.haproxy.holdLoad = nil })
				b.passes(time.Hour)
				b.haproxy.with(func() {
					if _, has := b.haproxy.backends["shop_nodes"]; has == c.isGone || b.haproxy.unpublished["shop_nodes"] {
						t.Errorf("HAProxy has shop: %v, unpublished: %v", has, b.haproxy.unpublished)
					}
				})
				s := b.agent.State().Reloads
				if s.Succeeded != 1 || s.LastReason != string(c.reason) || s.Pending != "" || len(s.For) > 0 {
					t.Errorf("got %+v, want one reload %s", s, c.reason)
				}
				if diff := cmp.Diff(want, s.LastFor); diff != "" {
					t.Errorf("the last reload was for (-want +got):\n%s", diff)
				}
				if n := b.sentOf(c.kind); n != 1 {
					t.Errorf("%s was sent %d times, want once", c.kind, n)
				}
				if n := b.log.count("backend refused at runtime, reload needed", string(c.kind), "words of HAProxy"); n != 1 {
					t.Errorf("logged %d times, want once:\n%s", n, b.log)
				}
				// The refusal is over then: the next change needs no reload.
				b.haproxy.with(func() { b.haproxy.fail = nil })
				b.discover(!c.isGone)
				b.passes(10 * time.Minute)
				b.haproxy.with(func() {
					if _, has := b.haproxy.backends["shop_nodes"]; has != c.isGone || len(b.haproxy.reloads) != 1 {
						t.Errorf("later HAProxy has shop: %v, after %d reloads, want %v and 1", has, len(b.haproxy.reloads), c.isGone)
					}
				})
			})
		})
	}
}

// A reload that does not bring the backend is made again ever more rarely, and the command is
// not sent again.
func TestBackend_RefusedAndNoReloadBringsIt_TriedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := discovering(t)
		b.haproxy.with(func() {
			b.haproxy.fail, b.haproxy.loseLoad = refusing(plan.AddBackend, plan.ErrBackendRefused), "shop_nodes"
		})
		b.discover(false)
		b.passes(10 * time.Minute)
		if sent, loads := b.sentOf(plan.AddBackend), len(b.haproxy.reloadTimes()); loads < 3 || loads > 20 || sent != 1 {
			t.Errorf("%d commands and %d reloads in ten minutes", sent, loads)
		}
	})
}

// What may pass is no refusal: it is tried again, and takes no reload.
func TestBackend_StepFailsForAWhile_TriedAgainWithoutReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := discovering(t)
		b.haproxy.with(func() { b.haproxy.fail = refusing(plan.AddBackend, errors.New("connection reset")) })
		b.discover(false)
		b.passes(10 * time.Second)
		b.haproxy.with(func() { b.haproxy.fail = nil })
		b.eventually("shop is there", 10*time.Second, func() bool { return len(b.haproxy.shows("shop_nodes")) == 1 })
		if n := len(b.haproxy.reloadTimes()); n > 0 {
			t.Errorf("%d reloads, want none", n)
		}
	})
}

// A service that comes back while HAProxy has refused to delete its backend is served.
func TestBackend_DeletionRefusedAndServiceIsBack_Served(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := discovering(t)
		b.discover(false)
		b.eventually("shop is there", 10*time.Second, func() bool { return len(b.haproxy.shows("shop_nodes")) == 1 })
		b.settings.ReloadInterval, b.settings.ReloadDebounce = time.Minute, time.Minute
		b.haproxy.with(func() { b.haproxy.fail = refusing(plan.DeleteBackend, plan.ErrBackendRefused) })
		b.discover(true)
		b.eventually("the deletion is refused", 30*time.Second, func() bool { return b.sentOf(plan.DeleteBackend) == 1 })
		b.discover(false)
		b.eventually("shop is served", 2*time.Minute, func() bool {
			isUnpublished := false
			b.haproxy.with(func() { isUnpublished = b.haproxy.unpublished["shop_nodes"] })
			return !isUnpublished && slices.ContainsFunc(b.haproxy.shows("shop_nodes"), func(line string) bool { return strings.HasSuffix(line, " up") })
		})
	})
}

// A service may go while a route leads to it: another service has it now. Requests fail if
// the backend goes before the route does.
func TestBackend_GoesWhileARouteLeadsThere_TheRouteFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := func(service string) route.Map { return route.Map{"a.test/": service + "_nodes"} }
		b := discovering(t, func(b *bench) {
			b.maps, b.settings.Maps = &fakeMaps{entries: map[string][]route.Entry{}}, routes(route.Map{})
		})
		b.settings.Maps = routes(to("shop"))
		b.discover(false)
		b.eventually("the route", time.Minute, func() bool { return b.maps.has(webMap, to("shop")) })
		b.maps.with(func() { b.maps.refuse = errors.New("Permission denied") })
		b.settings.Maps = routes(to("api"))
		b.discover(true)
		b.passes(10 * time.Second)
		before := b.recorder.seen()
		b.passes(time.Minute)
		if n := b.sentOf(plan.UnpublishBackend); n != 0 {
			t.Errorf("the backend was unpublished while a route leads there")
		}
		if n := b.recorder.seen() - before; n > 120 { // the comparisons of a minute, and each try of the map
			t.Errorf("%d states were published in a minute", n)
		}
		if s := b.agent.State(); s.Behind.Changes > 0 {
			t.Errorf("behind Consul by %d changes, for a service that has gone", s.Behind.Changes)
		}
		b.maps.with(func() { b.maps.refuse = nil })
		b.eventually("the backend goes", 10*time.Second, func() bool { return b.sentOf(plan.DeleteBackend) == 1 })
		if !b.maps.has(webMap, to("api")) {
			t.Error("the route does not lead to api")
		}
	})
}

// What one HAProxy has refused to do with a backend says nothing of another version: the
// command is sent again, and takes no reload.
func TestBackend_RefusedByTheVersionBefore_DoneAtRuntimeByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := discovering(t)
		before, _ := b.file.Read()
		b.settings.ReloadDebounce, b.settings.ReloadMaxDelay = 5*time.Minute, 5*time.Minute
		b.haproxy.with(func() { b.haproxy.fail = refusing(plan.AddBackend, plan.ErrBackendRefused) })
		b.discover(false)
		b.eventually("a reload is needed", 10*time.Second, func() bool { return b.agent.State().Reloads.Pending != "" })
		b.haproxy.with(func() { b.haproxy.fail, b.haproxy.caps.Version = nil, "3.4.8" })
		b.haproxy.startWith(before)
		b.passes(2 * b.settings.Reconcile) // it is noticed
		b.eventually("shop is there", 10*time.Second, func() bool { return len(b.haproxy.shows("shop_nodes")) == 1 })
		b.passes(10 * time.Minute)
		if n := len(b.haproxy.reloadTimes()); n > 0 || b.sentOf(plan.AddBackend) != 2 {
			t.Errorf("%d reloads and %d commands, want none and two", n, b.sentOf(plan.AddBackend))
		}
	})
}

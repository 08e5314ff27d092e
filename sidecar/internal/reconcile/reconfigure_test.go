package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestReconfigureBringsInAServiceByAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.catalog.says("web", instance("web-1", 9))
		b.settings.Services = append(slices.Clone(b.settings.Services), policyOf("web"))
		b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s2", Settings: "g2"}}
		b.agent.Reconfigure(reconcile.Settings{Reconcile: time.Hour, Renderer: b.renderer}) // is not taken: a newer one comes at once
		b.agent.Reconfigure(b.settings)
		b.passes(5 * time.Second)
		b.wantTold("reload", "reload service_added: ok")
		if got := b.haproxy.shows("web_nodes"); !slices.Equal(got, []string{"web-1 10.0.0.9:4000 ready up"}) {
			t.Errorf("got %q, want web-1 up", got)
		}
		if got := b.agent.State().Services; len(got) != 2 || got[1].Name != "web" {
			t.Errorf("got %d services in the state, want api and web", len(got))
		}
		if got := b.haproxy.steps(); len(got) != 0 {
			t.Errorf("sent %q, want nothing: the file brought it all", got)
		}
	})
}

func TestReconfigureNeverBlocksAndTheNewestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		b.catalog.says("api", instance("api-1", 1))
		b.adoptable()
		a, err := reconcile.New(reconcile.Options{Catalog: b.catalog, HAProxy: b.haproxy, File: b.file, Settings: b.settings})
		if err != nil {
			t.Fatal(err)
		}
		for _, every := range []time.Duration{time.Hour, 2 * time.Hour, time.Second} { // no reader takes them yet
			b.settings.Reconcile = every
			a.Reconfigure(b.settings)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = a.Run(ctx) }()
		b.passes(10500 * time.Millisecond)
		if n := len(b.haproxy.observations()); n < 10 || n > 13 {
			t.Errorf("got %d reads in ten seconds, want one in each", n)
		}
	})
}

// Any program that can register a load balancer changes the peers.
func TestReconfigure_NotByAnOperator_ReloadsKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		b.settings.Automatic, b.settings.ReloadInterval = true, 10*time.Second
		change := func(n int) {
			b.settings.Renderer = &fakeRenderer{marker: plan.Marker{Template: "t1", Services: "s1", Settings: fmt.Sprint("g", n)}}
			b.agent.Reconfigure(b.settings)
		}
		began := time.Now()
		for n := range 12 {
			change(2 + n)
			b.passes(2 * time.Second)
		}
		first := b.settings.ReloadDebounce
		b.wantReloads(began, first, first+b.settings.ReloadInterval, first+2*b.settings.ReloadInterval)

		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("cannot bind *:80") } })
		b.passes(time.Minute)
		began = time.Now()
		for n := range 30 {
			change(100 + n)
			b.passes(2 * time.Second)
		}
		if got := slices.DeleteFunc(b.since(began), func(d time.Duration) bool { return d < 0 }); len(got) > 4 {
			t.Errorf("got reloads after %v, want that they fail more and more rarely", got)
		}

		// An operator's settings count as theirs, also when others come before they are taken.
		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		began = time.Now()
		b.settings.Automatic = false
		change(200)
		b.settings.Automatic = true
		change(201)
		b.passes(b.settings.ReloadDebounce + 50*time.Millisecond)
		if got := b.since(began); got[len(got)-1] < 0 {
			t.Error("an operator's settings wait for the next reload")
		}
	})
}

func TestReconfigureTriesAtOnceWhatFailedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.haproxy.with(func() { b.haproxy.fail = func(plan.Step) error { return errors.New("no") } })
		b.file.with(func() { b.file.reject = func([]byte) error { return errors.New("disk full") } })
		b.catalog.says("api", many(2)...)
		b.passes(5 * time.Minute)
		b.haproxy.with(func() { b.haproxy.fail = nil })
		b.file.with(func() { b.file.reject = nil })
		b.agent.Reconfigure(b.settings)
		b.passes(b.settings.FileDelay + checkTime + 50*time.Millisecond)
		if got := len(b.haproxy.shows("api_nodes")); got != 2 {
			t.Errorf("got %d servers, want 2 at once", got)
		}
		b.wantFile("api-1 10.0.0.1:4000", "api-2 10.0.0.2:4000")
	})
}

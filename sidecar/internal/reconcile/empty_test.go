package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func TestService_NoInstance_IsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		b.catalog.says("api")
		b.catalog.says("web", instance("w", 1))
		b.adoptable()
		b.start()
		b.passes(time.Hour)
		b.catalog.says("api")
		b.passes(time.Hour)
		want := func(n int) {
			t.Helper()
			if got := b.log.count("[WARN]", "service has no instance", "service=api"); got != n || b.log.count("service has no instance") != n {
				t.Errorf("got %d lines about api, want %d and none about web:\n%s", got, n, b.log)
			}
		}
		want(1)
		b.catalog.says("api", instance("a", 2))
		b.passes(time.Minute)
		b.catalog.says("api")
		b.passes(time.Minute)
		want(2)
	})
}

func TestService_PreviewWithoutInstance_IsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true, "api", "web")
		preview := catalog.Service{Name: "web", Known: true, Rollout: &catalog.Rollout{State: catalog.InPreview}}
		b.catalog.says("api")
		b.catalog.answers(preview)
		b.adoptable()
		b.start()
		b.passes(time.Hour)
		if b.log.count("service has no instance", "service=api") != 1 || b.log.count("service has no instance") != 1 {
			t.Errorf("want one line, about api:\n%s", b.log)
		}
	})
}

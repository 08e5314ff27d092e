package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// A defect: a new worker takes all servers of its file for up until a check says
// otherwise, so a reload sent requests to those that were down or had never
// been checked; where they were many, every retry went to another of them.
func TestAReloadSendsNothingToServersThatNoCheckHasPassedFor(t *testing.T) {
	inTime(func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		instances := []catalog.Instance{instance("api-1", 1)}
		for n := 2; n <= 60; n++ {
			instances = append(instances, instance(fmt.Sprintf("dead-%d", n), n))
			b.haproxy.with(func() { b.haproxy.nodes[addr(n)] = false })
		}
		var up []string // just after each reload
		b.haproxy.with(func() {
			b.haproxy.onLoad = func() {
				for _, s := range b.haproxy.backends["api_nodes"] {
					if s.Up {
						up = append(up, s.Addr.String())
					}
				}
			}
		})
		b.catalog.says("api", instances...)
		b.eventually("all have a server", time.Minute, func() bool { return len(b.haproxy.shows("api_nodes")) == 60 })
		if len(b.haproxy.reloadTimes()) == 0 {
			t.Fatal("there was no reload: this proves nothing")
		}
		if slices.ContainsFunc(up, func(a string) bool { return a != addr(1).String() }) || len(up) == 0 {
			t.Errorf("up after a reload: %q, want %s only", up, addr(1))
		}
		// The file for another program that loads it has them all.
		b.passes(time.Minute)
		servers, _ := b.file.shows("api_nodes")
		if len(servers) != 60 {
			t.Errorf("the file has %d servers, want 60: %s", len(servers), strings.Join(servers, ", "))
		}
		for _, line := range b.recorder.told("step") {
			if strings.Contains(line, "drift") {
				t.Errorf("taken for another program's change: %s", line)
			}
		}
	})(t)
}

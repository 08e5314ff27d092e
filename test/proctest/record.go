package proctest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// Record watches an instance in Consul, and gives what it has been, each once
// until it changed: absent, or its health, and whether it leaves. It ends with
// stop or with the test.
func Record(tb testing.TB, consul *api.Client, service, id string) (stop func() []string) {
	tb.Helper()
	var seen []string
	quit, done := make(chan struct{}), make(chan struct{})
	var index uint64
	look := func() {
		got, meta, err := consul.Health().Service(service, "", false, &api.QueryOptions{WaitIndex: index, WaitTime: 100 * time.Millisecond})
		if err != nil {
			tb.Errorf("watch %s: %v", service, err)
			return
		}
		index = meta.LastIndex
		if now := shown(got, id); len(seen) == 0 || seen[len(seen)-1] != now {
			seen = append(seen, now)
		}
	}
	look()
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				look() // what came last
				return
			default:
				look()
			}
		}
	}()
	stop = sync.OnceValue(func() []string {
		close(quit)
		<-done
		return slices.Clone(seen)
	})
	tb.Cleanup(func() { stop() })
	return stop
}

func shown(entries []*api.ServiceEntry, id string) string {
	for _, e := range entries {
		if e.Service.ID != id {
			continue
		}
		if e.Service.Meta["pointsman-drain"] != "" {
			return e.Checks.AggregatedStatus() + " leaving"
		}
		return e.Checks.AggregatedStatus()
	}
	return "absent"
}

package cli

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// HAProxy's runtime socket takes few connections, and the loop needs one of them: it is
// asked once at a time, and once a second for each backend, however many ask.
func TestCountersOf_ManyAsk_HAProxyIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, reads := 0, 0, 0
		var fails error
		read := func(context.Context, string) (map[string]haproxy.Counters, error) {
			mu.Lock()
			now, reads = now+1, reads+1
			most = max(most, now)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			now--
			return map[string]haproxy.Counters{"s1": {Requests: uint64(reads)}}, fails
		}
		instances := []reconcile.InstanceState{{ID: "api-1", Server: "s1", Version: "1.0"}}
		state := &reconcile.State{Services: []reconcile.ServiceState{
			{Name: "api", Backend: "api", Instances: instances}, {Name: "api", Backend: "api-admin", Instances: instances},
		}}
		counters := countersOf(func() *reconcile.State { return state }, read)
		ask := func(wantReads int) {
			t.Helper()
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if got, isKnown, err := counters(t.Context(), "api"); err != nil || !isKnown || len(got) != 2 || got[0].Server != "s1" {
						t.Errorf("got %v, %v, %v", got, isKnown, err)
					}
				})
			}
			all.Wait()
			if most > 1 || reads != wantReads {
				t.Errorf("HAProxy was asked %d times, %d at once, want %d and 1", reads, most, wantReads)
			}
		}
		ask(2)
		ask(2)
		time.Sleep(countersAge)
		ask(4)

		time.Sleep(countersAge)
		fails = errors.New("no answer")
		if _, isKnown, err := counters(t.Context(), "api"); err == nil || !isKnown {
			t.Errorf("known %v, error %v, want HAProxy's", isKnown, err)
		}
		fails = nil
		ask(7) // a failure is not kept

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(countersAge)
		var other sync.WaitGroup
		defer other.Wait()
		other.Go(func() { _, _, _ = counters(t.Context(), "api") }) // it has the turn
		synctest.Wait()
		if _, _, err := counters(ended, "api"); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v for one who has gone", err)
		}
	})
}

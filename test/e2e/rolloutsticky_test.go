package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// visitor is a client with a cookie that asks both load balancers in turns, all the time.
type visitor struct {
	mu       sync.Mutex
	versions []string // each time that another one answered
	requests int
	failures []error
}

func (w *canaryWorld) visit(from int) *visitor {
	v, c := &visitor{}, newStickyClient(w.T, fmt.Sprint("127.0.1.", from))
	var ended sync.WaitGroup
	stop := make(chan struct{})
	ended.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			version, err := c.get(w.ctx, w.lbs[n%2].URL("shop"))
			v.take(version, err)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	w.Cleanup(func() { close(stop); ended.Wait() })
	return v
}

func (v *visitor) take(version string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.requests++; err != nil {
		v.failures = append(v.failures, err)
	} else if len(v.versions) == 0 || v.versions[len(v.versions)-1] != version {
		v.versions = append(v.versions, version)
	}
}

func (v *visitor) seen() (versions []string, requests int, failures []error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.versions), v.requests, slices.Clone(v.failures)
}

// leave has all instances of a version leave, and waits until they are drained and all clients
// are on another one.
func (w *canaryWorld) leave(version string, visitors []*visitor, to string) {
	w.Helper()
	found, _, err := w.consul.Client.Catalog().Service("shop", "", nil)
	w.must(err)
	found = slices.DeleteFunc(found, func(i *api.CatalogService) bool { return i.ServiceMeta["version"] != version })
	for _, i := range found {
		w.must(w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: i.ServiceID, Name: "shop", Address: i.ServiceAddress, Port: i.ServicePort,
			Meta: map[string]string{"version": version, "pointsman-drain": time.Now().UTC().Format(time.RFC3339Nano)},
		}))
	}
	for _, lb := range w.lbs {
		for _, i := range found {
			w.must(lb.Drained(w.ctx, "shop", i.ServiceID, 20*time.Second))
		}
	}
	w.must(lab.Until(w.ctx, 20*time.Second, "all clients are on "+to, func() error {
		for i, v := range visitors {
			if versions, _, _ := v.seen(); versions[len(versions)-1] != to {
				return fmt.Errorf("client %d is on %q", i, versions)
			}
		}
		return nil
	}))
}

// A client with a cookie of an aborted version stays with it, without a failed request, until
// the version's instances leave. Then it is served by the other version, and stays there.
func TestRollout_StickyAborted_ClientsGoToTheOtherVersionWhenItLeaves(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    sticky: {cookie: SRV}\n    drain_sticky: move\n    slots: {min: 12}\n")
	w.operate("set", "shop", "1.0=100", "1.1=0")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	w.operate("start", "shop", "--canary", "1.1", "--steps", "50,100", "--interval", "1h", "--analysis=false")
	w.applied(map[string]int{"1.0": 50, "1.1": 50})
	var visitors []*visitor
	for n := range 16 {
		visitors = append(visitors, w.visit(1+n))
	}
	on := func(version string) (n int) {
		for _, v := range visitors {
			if versions, _, _ := v.seen(); len(versions) > 0 && versions[len(versions)-1] == version {
				n++
			}
		}
		return n
	}
	w.must(lab.Until(w.ctx, 20*time.Second, "all clients have a version, and both versions have some", func() error {
		if first, second := on("1.0"), on("1.1"); first+second < len(visitors) || first == 0 || second == 0 {
			return fmt.Errorf("%d are on 1.0, %d on 1.1", first, second)
		}
		return nil
	}))
	before := on("1.1")
	w.operate("abort", "shop")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	time.Sleep(2 * time.Second)
	if got := on("1.1"); got != before {
		t.Errorf("%d clients were on 1.1, and %d are after the abort", before, got)
	}
	for _, lb := range w.lbs {
		if got := w.measure(lb, 200)["1.1"]; got > 0 {
			t.Errorf("%s gives %.2f %% of new clients to the aborted version", lb.Name, got)
		}
	}
	w.leave("1.1", visitors, "1.0")
	for i, v := range visitors {
		versions, requests, failures := v.seen()
		if len(failures) > 0 || len(versions) > 2 {
			t.Errorf("client %d: %d requests, answered by %q, failed: %v", i, requests, versions, failures)
		}
	}
}

// A client with a cookie keeps its version at each step of a rollout, on both load
// balancers, also when its version has no share any more. It goes to the new version when
// the nodes of the old one leave. New clients come by the shares; no request fails and
// nothing is reloaded (issue 17, point 5).
func TestRollout_Sticky_ClientsKeepTheirVersionUntilItLeaves(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    sticky: {cookie: SRV}\n    drain_sticky: move\n    slots: {min: 12}\n")
	w.operate("set", "shop", "1.0=100", "1.1=0")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	var visitors []*visitor
	settle := func() {
		t.Helper()
		for range 8 {
			visitors = append(visitors, w.visit(1+len(visitors)))
		}
		rounds := make([]int, len(visitors))
		for i, v := range visitors {
			_, rounds[i], _ = v.seen()
		}
		w.must(lab.Until(w.ctx, 20*time.Second, "each client has asked both load balancers again", func() error {
			for i, v := range visitors {
				if _, n, _ := v.seen(); n < rounds[i]+4 {
					return fmt.Errorf("client %d has asked %d times", i, n)
				}
			}
			return nil
		}))
	}
	stays := func(when string) (first map[string]int) {
		t.Helper()
		first = map[string]int{}
		for i, v := range visitors {
			versions, _, _ := v.seen()
			if len(versions) != 1 {
				t.Errorf("%s: client %d was answered by %q, want one version all the time", when, i, versions)
				continue
			}
			first[versions[0]]++
		}
		return first
	}
	settle()
	if got := stays("before the rollout"); got["1.0"] != 8 {
		t.Errorf("clients are on %v, want all on 1.0", got)
	}
	w.operate("start", "shop", "--canary", "1.1", "--steps", "20,60,100", "--interval", "1h", "--analysis=false")
	for _, share := range []int{20, 60, 100} {
		if share > 20 {
			w.operate("promote", "shop")
		}
		w.applied(map[string]int{"1.0": 100 - share, "1.1": share})
		settle()
		for _, lb := range w.lbs {
			if got := w.measure(lb, 500)["1.1"]; got < float64(share)-2 || got > float64(share)+2 {
				t.Errorf("at %d %%: %s gives %.2f %% of new clients to 1.1", share, lb.Name, got)
			}
		}
		t.Logf("at %d %%: the clients are on %v", share, stays(fmt.Sprintf("at %d %%", share)))
	}
	if got := stays("promoted"); got["1.0"] < 8 || got["1.1"] < 8 {
		t.Errorf("clients are on %v, want those of before on 1.0, and the last ones on 1.1", got)
	}
	w.leave("1.0", visitors, "1.1")
	for i, v := range visitors {
		versions, requests, failures := v.seen()
		if len(failures) > 0 || len(versions) > 2 {
			t.Errorf("client %d: %d requests, answered by %q, failed: %v", i, requests, versions, failures)
		}
	}
	for n, lb := range w.lbs {
		if pid, err := lb.WorkerPID(w.ctx); err != nil || pid != w.pid[n] {
			t.Errorf("%s was reloaded", lb.Name)
		}
	}
}

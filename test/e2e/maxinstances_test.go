package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// A flood of instances takes no server from those that were there, on any load
// balancer, and is reported.
func TestMaxInstances_FloodBeyond_OldestStayOnEveryLoadBalancer(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	var balancers []*lab.Balancer
	for _, name := range []string{"lb0", "lb1"} {
		lb, err := w.NewBalancer(name, w.consul, lab.Service{Name: service, Backend: "api_nodes", Extra: "    max_instances: 40"})
		w.must(err)
		w.must(lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // they stand for other machines
		balancers = append(balancers, lb)
	}
	w.must(balancers[0].Start(w.ctx))
	node, err := w.StartNode(w.ctx, w.consul, service, "zz", "1.0") // by its name it would be the last
	w.must(err)
	w.must(balancers[0].Routes(w.ctx, 20*time.Second, service, "zz"))
	w.must(w.registerDead(w.ctx, 0, 200, 9))
	w.must(balancers[1].Start(w.ctx)) // it has never seen fewer
	var first []string
	for _, lb := range balancers {
		var got []string
		w.must(lab.Until(w.ctx, 20*time.Second, lb.Name+" has 40 servers", func() error {
			servers, err := lb.Servers(w.ctx, "api_nodes")
			got = nil
			for _, s := range servers {
				if s.Addr != "127.0.0.1:9" { // a free slot
					got = append(got, s.Addr)
				}
			}
			if err == nil && len(got) != 40 {
				err = fmt.Errorf("it has %d", len(got))
			}
			return err
		}))
		slices.Sort(got)
		if !slices.Contains(got, node.Addr()) {
			t.Errorf("%s has not the oldest, %s: %v", lb.Name, node.Addr(), got)
		}
		if first == nil {
			first = got
		}
		if !slices.Equal(got, first) {
			t.Errorf("%s has other servers than %s: %v and %v", lb.Name, balancers[0].Name, got, first)
		}
		w.must(lab.Until(w.ctx, 10*time.Second, lb.Name+" tells what is left out", func() error {
			state, err := lb.StateJSON(w.ctx)
			if err == nil && !strings.Contains(string(state), `"beyond_max_instances":161`) && !strings.Contains(string(state), `"beyond_max_instances": 161`) {
				err = errors.New("the state does not say so")
			}
			return err
		}))
		if n := strings.Count(lb.Sidecar.Tail(2000), "instances beyond max_instances ignored"); n != 1 {
			t.Errorf("%s has logged it %d times, want once", lb.Name, n)
		}
		out, code := sidecar(t, []string{"POINTSMAN_CONFIG=" + lb.Settings()}, "check")
		if want := "api_nodes: 161 are left out, beyond max_instances"; !strings.Contains(out, want) {
			t.Errorf("check on %s: exit code %d, want %q in\n%s", lb.Name, code, want, out)
		}
	}
}

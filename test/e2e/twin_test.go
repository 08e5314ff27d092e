package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// Consul's service IDs are unique on their node only. One that stands on two
// nodes gives two servers, told apart by name; when one of them is deregistered,
// the other must not be taken for new, nor the first one held as half of a mass
// loss (issue 13, section 4).
func TestServiceID_OnTwoNodes_OneDeregistered_LeavesAndOtherStays(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // the nodes stand for other machines
	w.must(w.lb.Start(w.ctx))
	var at []string
	for _, name := range []string{"a", "b"} {
		n, err := w.StartNode(w.ctx, w.consul, "elsewhere", name, "1.0") // known under another service only
		w.must(err)
		at = append(at, n.Addr())
		_, err = w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: "node-" + name, Address: "127.0.0.1", Service: &api.AgentService{ID: "web", Service: service, Port: n.Port},
		}, nil)
		w.must(err)
		w.must(w.servesAt(at...))
	}
	clients := w.load()
	before, err := w.lb.Servers(w.ctx, "api_nodes")
	w.must(err)
	_, err = w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "node-b", ServiceID: "web"}, nil)
	w.must(err)
	w.must(w.servesAt(at[0]))
	w.must(lab.Until(w.ctx, 10*time.Second, "one instance is left in the state", func() error {
		if got := w.state().Instances(service); len(got) != 1 || got[0].Addr != at[0] || got[0].Phase != "up" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	}))
	// The one that stays is the same server as before.
	after, err := w.lb.Servers(w.ctx, "api_nodes")
	w.must(err)
	if got, want := nameAt(after, at[0]), nameAt(before, at[0]); got != want {
		t.Errorf("the server that stays is called %q, want %q as before", got, want)
	}
	w.mustLoseNothing(clients)
}

func nameAt(servers []lab.Server, at string) string {
	for _, s := range servers {
		if s.Addr == at && s.Up {
			return s.Name
		}
	}
	return ""
}

// servesAt waits until HAProxy's servers in traffic are at these addresses,
// each once.
func (w *world) servesAt(want ...string) error {
	return lab.Until(w.ctx, 10*time.Second, fmt.Sprintf("HAProxy has servers at %v", want), func() error {
		servers, err := w.lb.Servers(w.ctx, "api_nodes")
		count := map[string]int{}
		up := 0
		for _, s := range servers {
			if s.Up {
				count[s.Addr]++
				up++
			}
		}
		for _, at := range want {
			if count[at] != 1 || up != len(want) {
				err = errors.Join(err, fmt.Errorf("%+v", servers))
			}
		}
		return err
	})
}

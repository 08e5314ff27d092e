package e2e

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// held is a world in which the guard holds three servers of api: Consul's node
// with their instances has gone, and what listens at their addresses has not.
func held(t *testing.T, extra string) (w *world, at []string) {
	t.Helper()
	w = bareWorld(t)
	w.newBalancer(
		lab.Service{Name: service, Backend: "api_nodes", Extra: extra}, lab.Service{Name: "billing", Backend: "billing_nodes"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // the nodes stand for other machines
	w.must(w.lb.Start(w.ctx))
	for i, name := range []string{"a", "b", "c", "d"} {
		n, err := w.StartNode(w.ctx, w.consul, "elsewhere", name, "1.0") // known under another service only
		w.must(err)
		at = append(at, n.Addr())
		node := "gone"
		if i == 3 {
			node = "stays"
		}
		_, err = w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: "127.0.0.1", Service: &api.AgentService{ID: name, Service: service, Port: n.Port},
		}, nil)
		w.must(err)
	}
	w.must(w.serves("all are up", at))
	_, err := w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "gone"}, nil)
	w.must(err)
	w.logged("mass removal blocked")
	return w, at
}

// serves waits until HAProxy's servers of api that take traffic are those.
func (w *world) serves(what string, want []string) error {
	return lab.Until(w.ctx, 15*time.Second, what, func() error {
		servers, err := w.lb.Servers(w.ctx, "api_nodes")
		var got []string
		for _, s := range servers {
			if s.Up {
				got = append(got, s.Addr)
			}
		}
		if err == nil && !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			err = fmt.Errorf("got %v, want %v", got, want)
		}
		return err
	})
}

// Requests for api went to billing (issue 14, section 6).
func TestGuard_AddressOfHeldServerTakenByAnotherService_GetsNoRequest(t *testing.T) {
	t.Parallel()
	w, at := held(t, "")
	w.must(w.serves("they are held", at))
	_, port, _ := strings.Cut(at[0], ":")
	var n int
	_, err := fmt.Sscan(port, &n)
	w.must(err)
	_, err = w.consul.Client.Catalog().Register(&api.CatalogRegistration{
		Node: "new", Address: "127.0.0.1", Service: &api.AgentService{ID: "billing-1", Service: "billing", Port: n},
	}, nil)
	w.must(err)
	w.must(w.serves("api no longer goes to billing's address, and the others stay", at[1:]))
}

// Of 300 quick deregistrations 94 servers stayed without end (issue 14, section 6).
func TestGuard_ManyQuickDeregistrations_NoServerStays(t *testing.T) {
	t.Parallel()
	const gone = 300
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes", Extra: "    guard: {hold_deregistered: 3s}"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // they stand for other machines
	w.must(w.lb.Start(w.ctx))
	port, err := w.Port()
	w.must(err)
	l, err := (&net.ListenConfig{}).Listen(w.ctx, "tcp", fmt.Sprintf("0.0.0.0:%d", port))
	w.must(err)
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = srv.Serve(l) }() // it ends with Close
	w.Cleanup(func() { _ = srv.Close() })
	w.must(w.registerDead(w.ctx, 0, gone+1, port)) // they live
	up := func() (all []string) {
		servers, err := w.lb.Servers(w.ctx, "api_nodes")
		w.must(err)
		for _, s := range servers {
			if s.Up && strings.HasPrefix(s.Addr, "127.9.") {
				all = append(all, s.Addr)
			}
		}
		return all
	}
	w.must(lab.Until(w.ctx, 60*time.Second, "all are up", func() error {
		if n := w.upIn("api_nodes"); n != gone+1 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	}))
	for i := 1; i <= gone; i++ {
		_, err := w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: floodNode, ServiceID: fmt.Sprintf("flood-%d", i)}, nil)
		w.must(err)
	}
	w.loggedIn(100000, "mass removal blocked")
	w.must(lab.Until(w.ctx, 60*time.Second, "only the one that is registered stays", func() error {
		if all := up(); !slices.Equal(all, []string{fmt.Sprintf("127.9.0.1:%d", port)}) {
			return fmt.Errorf("%d stay: %.10q", len(all), all)
		}
		return nil
	}))
}

// upIn is how many servers of a backend take traffic.
func (w *world) upIn(backend string) (n int) {
	servers, err := w.lb.Servers(w.ctx, backend)
	w.must(err)
	for _, s := range servers {
		if s.Up {
			n++
		}
	}
	return n
}

// Servers of instances that were gone stayed without end (issue 14, section 6).
func TestGuard_DeregisteredServers_GoWhenHoldIsOver(t *testing.T) {
	t.Parallel()
	w, at := held(t, "    guard: {hold_deregistered: 3s}")
	w.must(w.serves("they have gone, and the one that is listed has not", at[3:]))
}

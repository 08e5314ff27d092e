package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// twoDatacenters is a load balancer of dc1 whose service is in dc2, too.
type twoDatacenters struct {
	*world
	consuls []*lab.Consul // of dc1 and dc2
}

func newTwoDatacenters(t *testing.T) *twoDatacenters {
	t.Helper()
	w := &twoDatacenters{world: emptyWorld(t)}
	var err error
	w.consuls, err = w.StartDatacenters(w.ctx, "dc1", "dc2")
	w.must(err)
	w.consul = w.consuls[0]
	w.newBalancer(lab.Service{Name: service, Backend: "api_nodes", Extra: "    datacenters: [dc1, dc2]\n"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}\n")) // dc2's are on loopback here, too
	return w
}

// startIn starts nodes in one of the datacenters.
func (w *twoDatacenters) startIn(datacenter, count int, args ...string) (nodes []*lab.Node) {
	w.Helper()
	for i := range count {
		n, err := w.StartNode(w.ctx, w.consuls[datacenter], service, fmt.Sprintf("dc%d-%d", datacenter+1, i), "1.0", args...)
		w.must(err)
		nodes = append(nodes, n)
	}
	return nodes
}

// served is how many requests each instance has answered meanwhile.
func (w *twoDatacenters) served(during func()) map[string]uint64 {
	w.Helper()
	clients := w.load()
	during()
	out := map[string]uint64{}
	for _, c := range clients {
		r, err := c.Finish(30 * time.Second)
		w.must(err)
		if r.Failed > 0 {
			w.Errorf("%d of %d requests failed: %v", r.Failed, r.Requests, r.Failures)
		}
		for id, n := range r.Instances {
			out[id] += n
		}
	}
	return out
}

func TestDatacenters_LocalNodesLeaveAndComeBack_NoFailedRequest(t *testing.T) {
	t.Parallel()
	w := newTwoDatacenters(t)
	w.must(w.lb.Start(w.ctx))
	local := w.startIn(0, 2)
	other := w.startIn(1, 2, "--sidecar-datacenter", "dc1")
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, "dc1-0", "dc1-1", "dc2-0.dc2", "dc2-1.dc2"))
	if got := w.served(func() { time.Sleep(time.Second) }); got["dc2-0"]+got["dc2-1"] != 0 || got["dc1-0"] == 0 || got["dc1-1"] == 0 {
		t.Errorf("with all up: %v, want dc1's only", got)
	}
	got := w.served(func() {
		for _, n := range local {
			w.must(n.Leave(30 * time.Second))
		}
		time.Sleep(time.Second)
	})
	if got["dc2-0"] == 0 || got["dc2-1"] == 0 {
		t.Errorf("after dc1's have left: %v, want both of dc2", got)
	}
	w.served(func() {
		began := time.Now()
		w.must(other[0].Leave(30 * time.Second))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("left after %v, as without an answer of dc1", took)
		}
		w.must(other[0].Restart(w.ctx))
	})
	if log := other[0].Tail(100); !strings.Contains(log, "drained on load balancer") || !strings.Contains(log, "lb0.dc1") {
		t.Errorf("it was not told that dc1's load balancer has drained it:\n%s", log)
	}
	w.served(func() {
		for _, n := range local {
			w.must(n.Restart(w.ctx))
		}
		w.must(w.lb.Routes(w.ctx, 20*time.Second, service, "dc1-0", "dc1-1", "dc2-0.dc2", "dc2-1.dc2"))
	})
	if got := w.served(func() { time.Sleep(time.Second) }); got["dc2-0"]+got["dc2-1"] != 0 {
		t.Errorf("with all up again: %v, want dc1's only", got)
	}
}

// HAProxy's checks alone take dc1's nodes out, and later bring them back, while dc2's
// Consul has ended: what is known of dc2 stays.
func TestDatacenters_LocalChecksFail_OthersServe(t *testing.T) {
	t.Parallel()
	w := newTwoDatacenters(t)
	w.must(w.lb.Start(w.ctx))
	local := w.startIn(0, 2)
	w.startIn(1, 2)
	all := []string{"dc1-0", "dc1-1", "dc2-0.dc2", "dc2-1.dc2"}
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, all...))
	w.must(w.consuls[1].Kill())
	got := w.served(func() {
		for _, n := range local {
			w.must(n.Fail(w.ctx, "critical")) // it still answers requests
		}
		w.must(w.lb.Routes(w.ctx, 20*time.Second, service, all[2:]...))
		time.Sleep(time.Second)
	})
	if got["dc2-0"] == 0 || got["dc2-1"] == 0 {
		t.Errorf("with dc1's checks failing: %v, want both of dc2", got)
	}
	w.served(func() {
		for _, n := range local {
			w.must(n.Fail(w.ctx, "ok"))
		}
		w.must(w.lb.Routes(w.ctx, 30*time.Second, service, all...))
	})
	if got := w.served(func() { time.Sleep(time.Second) }); got["dc2-0"]+got["dc2-1"] != 0 {
		t.Errorf("with all up again: %v, want dc1's only", got)
	}
}

func TestPreferZone_OwnZoneLeavesAndComesBack_NoFailedRequest(t *testing.T) {
	t.Parallel()
	w := &twoDatacenters{world: emptyWorld(t)}
	var err error
	w.consul, err = w.NewConsul(0)
	w.must(err)
	w.consul.Flags = []string{"-node-meta=zone:eu-1a"}
	w.must(w.consul.Restart(w.ctx))
	w.newBalancer(lab.Service{Name: service, Backend: "api_nodes", Extra: "    prefer_zone: true\n"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}\n"))
	w.must(w.lb.Start(w.ctx))
	own := w.startNodes("1.0", "own", 1)[0]
	far, err := w.StartNode(w.ctx, w.consul, service, "far", "1.0", "--no-register")
	w.must(err)
	_, err = w.consul.Client.Catalog().Register(&api.CatalogRegistration{
		Node: "elsewhere", Address: "127.0.0.1", NodeMeta: map[string]string{"zone": "eu-1b"},
		Service: &api.AgentService{ID: "far", Service: service, Address: "127.0.0.1", Port: far.Port},
	}, nil)
	w.must(err)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, "own0", "far"))
	if got := w.served(func() { time.Sleep(time.Second) }); got["far"] != 0 || got["own0"] == 0 {
		t.Errorf("with both up: %v, want the own zone only", got)
	}
	if got := w.served(func() { w.must(own.Leave(30 * time.Second)); time.Sleep(time.Second) }); got["far"] == 0 {
		t.Errorf("after the own one has left: %v, want the other zone", got)
	}
	w.served(func() {
		w.must(own.Restart(w.ctx))
		w.must(w.lb.Routes(w.ctx, 20*time.Second, service, "own0", "far"))
	})
	if got := w.served(func() { time.Sleep(time.Second) }); got["far"] != 0 {
		t.Errorf("with both up again: %v, want the own zone only", got)
	}
}

// A discovered service whose profile has datacenters: on HAProxy 3.4 and newer its backend
// is added at runtime, with all backups in use as in haproxy.cfg.
func TestDatacenters_DiscoveredService_AllBackupsServe(t *testing.T) {
	t.Parallel()
	two := newTwoDatacenters(t)
	w := &routedWorld{world: two.world}
	var err error
	w.port, err = w.Port()
	w.must(err)
	w.must(w.lb.SetServices(lab.Service{Name: "own", BackendOnly: true}))
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}\nprofiles:\n  - {name: default, datacenters: [dc1, dc2]}\n" + fmt.Sprintf(discoverSettings, w.port)))
	w.must(w.lb.Start(w.ctx))
	before, each := w.reloads(), w.reloadsFor()
	local := w.serve("shop", "shop0", "pointsman-route=shop.example.com")
	w.until("shop.example.com", "/", "shop0")
	w.consul = two.consuls[1]
	w.serve("shop", "shop1")
	w.serve("shop", "shop2")
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "shop", "shop0", "shop1.dc2", "shop2.dc2"))
	w.until("shop.example.com", "/", "shop0")
	w.consul = two.consuls[0]
	w.must(w.consul.Client.Agent().EnableServiceMaintenance(local.id, ""))
	w.until("shop.example.com", "/", "shop1")
	w.until("shop.example.com", "/", "shop2")
	if got := w.reloads() - before; each == 0 && got != 0 {
		t.Errorf("%d reloads, want none", got)
	}
}

package cli

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// Registrations are hostile until parsed: what is no name or no address of a peer never
// reaches haproxy.cfg, and no one takes this load balancer's own name or address.
func TestPeers_Registrations_AreCheckedBeforeTheyArePeers(t *testing.T) {
	var registered []*api.CatalogService
	for _, r := range []struct{ name, at string }{
		{"lb2", "10.0.0.2:10000"},
		{"lb1", "10.0.0.1:10000"},
		{"lb1", "10.0.0.9:10000"}, // a second one of this name
		{"lb0", "10.0.0.8:10000"}, // our own name
		{"lb9", "10.0.0.5:10000"}, // our own address
		{"x\nglobal", "10.0.0.3:10000"},
		{"evil name #;{}", "10.0.0.4:10000"},
		{"lb5", "0.0.0.0:10000"},
		{"lb6", "10.0.0.6:0"},
		{"lb7", "host:10000"},
		{"lb8", "10.0.0.8:10000 server x"},
		{"", "10.0.0.7:10000"},
		{"lb10", ""},
	} {
		registered = append(registered, &api.CatalogService{ServiceMeta: map[string]string{"pointsman-lb": r.name, "pointsman-peer": r.at}})
	}
	cfg := config.Config{Name: "lb0", HAProxy: config.HAProxy{Peers: config.Peers{Address: "10.0.0.5:10000"}}}
	got := peersOf(cfg, registeredPeers(registered))
	var want []render.Peer
	for _, p := range []struct{ name, at string }{{"lb0", "10.0.0.5:10000"}, {"evil_name_____", "10.0.0.4:10000"}, {"lb1", "10.0.0.1:10000"}, {"lb2", "10.0.0.2:10000"}} {
		want = append(want, render.Peer{Name: p.name, Address: netip.MustParseAddrPort(p.at)})
	}
	if diff := cmp.Diff(got, want, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("peers (-got +want):\n%s", diff)
	}

	cfg.HAProxy.Peers.Address = ""
	if got := peersOf(cfg, registeredPeers(registered)); got != nil {
		t.Errorf("without an address of its own: %v", got)
	}
}

package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

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

// Each change of the peers is a reload of every load balancer.
func TestPeers_RegistrationsComeAndGo_FewChanges(t *testing.T) {
	at := func(name, address string) render.Peer {
		return render.Peer{Name: name, Address: netip.MustParseAddrPort(address)}
	}
	own, lb1, lb2, other := at("lb0", "10.0.0.1:1"), at("lb1", "10.0.0.1:2"), at("lb2", "10.0.0.1:3"), at("other", "10.0.0.1:4")
	saved, alone, all := []render.Peer{own, lb1}, []render.Peer{own}, []render.Peer{own, lb1, lb2}
	for _, c := range []struct {
		name string
		says func(since time.Duration) []render.Peer // what is registered; nil: Consul does not answer
		want []string                                // the changes
	}{
		{"nothing changes", func(time.Duration) []render.Peer { return saved }, nil},
		{"one that comes", func(time.Duration) []render.Peer { return all }, []string{"5s lb1 lb2"}},
		{"several that come within seconds", func(d time.Duration) []render.Peer {
			if d < 4*time.Second {
				return []render.Peer{own, lb1, other}
			}
			return []render.Peer{own, lb1, lb2, other}
		}, []string{"5s lb1 lb2 other"}},
		{"one that is away while its agent starts again", func(d time.Duration) []render.Peer {
			if d > time.Minute && d < 10*time.Minute {
				return alone
			}
			return saved
		}, nil},
		{"one that goes", func(time.Duration) []render.Peer { return alone }, []string{"10m5s"}},
		{"one that goes while Consul is away at times", func(d time.Duration) []render.Peer {
			if d%(5*time.Minute) == 0 {
				return nil
			}
			return alone
		}, nil},
		{"one that goes and comes every two seconds", func(d time.Duration) []render.Peer {
			if d/time.Second%4 < 2 {
				return saved
			}
			return all
		}, nil},
		{"a new name at the address of one that went", func(time.Duration) []render.Peer {
			return []render.Peer{own, at("new", "10.0.0.1:2")}
		}, []string{"5s new"}},
		{"Consul knows no peer", func(time.Duration) []render.Peer { return []render.Peer{} }, nil},
	} {
		k := newPeerKeeper("lb0", saved)
		began := time.Now()
		var got []string
		for d := time.Duration(0); d < 11*time.Minute; d += time.Second {
			now := began.Add(d)
			if says := c.says(d); says != nil {
				k.note(says, now)
			} else {
				k.unsure()
			}
			if !k.isDue(now) {
				continue
			}
			change := []string{d.String()}
			for _, p := range k.take(now) {
				change = append(change, p.Name)
			}
			got = append(got, strings.Join(change, " "))
		}
		if diff := cmp.Diff(got, c.want); diff != "" {
			t.Errorf("%s: changes (-got +want):\n%s", c.name, diff)
		}
	}
}

// A load balancer that changes its address all the time has HAProxy reload only now and then.
func TestPeers_AddressChangesAllTheTime_ChangesAreSpaced(t *testing.T) {
	k := newPeerKeeper("lb0", nil)
	began, changes := time.Now(), 0
	for n := range 300 {
		now := began.Add(time.Duration(n) * 2 * time.Second)
		address := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(1+n))
		k.note([]render.Peer{{Name: "lb0", Address: address}, {Name: "evil", Address: address}}, now)
		if k.isDue(now) {
			k.take(now)
			changes++
		}
	}
	if changes < 2 || changes > 20 {
		t.Errorf("got %d changes in 10 minutes, want one in 30 s", changes)
	}
}

package daemon

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

const (
	maxPeers = 64 // load balancers that exchange stick tables
	// peersPause is the shortest time between two looks, and after a failed one.
	peersPause = 2 * time.Second
)

// peersOf is this load balancer and the others that exchange stick tables with it,
// itself first; none if it does not.
func peersOf(cfg config.Config, others []render.Peer) []render.Peer {
	own, err := netip.ParseAddrPort(cfg.HAProxy.Peers.Address)
	if err != nil {
		return nil
	}
	all := []render.Peer{{Name: peerName(cfg.Name), Address: own}}
	for _, p := range others {
		if len(all) < maxPeers && !slices.ContainsFunc(all, func(o render.Peer) bool { return o.Name == p.Name || o.Address == p.Address }) {
			all = append(all, p)
		}
	}
	return all
}

// savedPeers is the peers of the file: those that are known while Consul has said
// nothing.
func savedPeers(cfg config.Config) []render.Peer {
	if cfg.HAProxy.Peers.Address == "" {
		return nil
	}
	content, _ := render.ReadRegular(cfg.HAProxy.Config) // there may be none yet
	return render.PeersOf(content)
}

// peerName is a load balancer's name as one word of haproxy.cfg.
func peerName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r) {
			return r
		}
		return '_'
	}, name)
}

// registeredPeers reads the sidecars' registrations. One that is wrong is passed over.
// A name that several have is that of the lowest address.
func registeredPeers(sidecars []*api.CatalogService) (peers []render.Peer) {
	for _, s := range sidecars {
		says, err := contract.ParseSidecar(s.ServiceMeta)
		if err == nil && says.Peer.IsValid() {
			peers = append(peers, render.Peer{Name: peerName(says.Balancer), Address: says.Peer})
		}
	}
	slices.SortFunc(peers, func(a, b render.Peer) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Address.Compare(b.Address)
	})
	return slices.CompactFunc(peers, func(a, b render.Peer) bool { return a.Name == b.Name })
}

// followPeers makes the load balancers that Consul knows peers of each other. It begins
// once this one is to be one: that, and where Consul is, do not change while it runs.
func (d *Daemon) followPeers(ctx context.Context, cfg config.Config) error {
	if cfg.HAProxy.Peers.Address == "" || cfg.API.Service == "" {
		return nil
	}
	options, err := ConsulOptions(cfg, d.log).API()
	if err != nil {
		return err
	}
	client, err := api.NewClient(options)
	if err != nil {
		return err
	}
	d.mu.Lock()
	saved := d.peers
	d.mu.Unlock()
	followPeers(ctx, client, cfg, saved, d.log.Named("peers"), d.setPeers)
	return nil
}

// setPeers renders with other peers.
func (d *Daemon) setPeers(peers []render.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, now := peersOf(d.cfg, d.peers), peersOf(d.cfg, peers)
	if slices.Equal(before, now) {
		return
	}
	cfg := d.whole(asStarted(d.cfg, d.started))
	r, err := newRendererWith(cfg, peers)
	if err != nil {
		d.log.Error("invalid template, keeping current peers", "error", err)
		return
	}
	d.log.Info("peers changed", "peers", len(now), "was", len(before))
	d.peers = peers
	d.reconfigure(r, automatic(settings(cfg, r)))
}

// followPeers gives the peers in Consul when they change, until ctx ends. While
// Consul does not answer, or does not know this sidecar, those stay that are known: it
// has forgotten the others as well. A sidecar that has stopped stays
// registered, and so its HAProxy stays a peer.
func followPeers(ctx context.Context, client *api.Client, cfg config.Config, saved []render.Peer, log hclog.Logger, found func([]render.Peer)) {
	var index uint64
	known := newPeerKeeper(peerName(cfg.Name), saved)
	failed := false
	for ctx.Err() == nil {
		sidecars, meta, err := client.Catalog().Service(cfg.API.Service, "", (&api.QueryOptions{WaitIndex: index, WaitTime: known.wait(time.Now())}).WithContext(ctx))
		switch {
		case err != nil:
			if !failed && ctx.Err() == nil {
				log.Warn("peers unknown, keeping last known", "error", err)
			}
			failed, index = true, 0
			known.unsure()
		case meta.LastIndex < index:
			index = 0 // Consul's was reset
			known.unsure()
		default:
			failed, index = false, meta.LastIndex
			known.note(registeredPeers(sidecars), time.Now())
		}
		if known.isDue(time.Now()) {
			found(known.take(time.Now()))
		}
		select {
		case <-ctx.Done():
		case <-time.After(peersPause):
		}
	}
}

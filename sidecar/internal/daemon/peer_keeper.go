package daemon

import (
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// Each change of the peers is a reload, and anyone who may register a sidecar can make
// one.
const (
	peersGather   = 5 * time.Second  // from a change until it is made, for more of them
	peersInterval = 30 * time.Second // between two changes, at least
	peersKept     = 10 * time.Minute // a peer that is no longer registered: one too many does no harm
	peersLook     = time.Minute      // how long Consul may take to answer that nothing has changed
)

// peerKeeper says when the peers change. The load balancer itself is not among them.
type peerKeeper struct {
	own     string
	made    []render.Peer        // as they are in haproxy.cfg
	next    []render.Peer        // as they should be
	missing map[string]time.Time // by name, those of made that are not registered, since when
	changed time.Time            // since when next is not what is made; zero: it is
	last    time.Time            // when the last change was made
}

// newPeerKeeper begins with the peers of the file, which it takes for registered.
func newPeerKeeper(own string, saved []render.Peer) *peerKeeper {
	k := &peerKeeper{own: own}
	k.made = k.others(saved)
	k.next = k.made
	return k
}

// others leaves out the load balancer itself, and sorts.
func (k *peerKeeper) others(peers []render.Peer) []render.Peer {
	out := slices.DeleteFunc(slices.Clone(peers), func(p render.Peer) bool { return p.Name == k.own })
	slices.SortFunc(out, func(a, b render.Peer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// note takes what is registered. Without the load balancer itself it says nothing.
func (k *peerKeeper) note(registered []render.Peer, now time.Time) {
	if !slices.ContainsFunc(registered, func(p render.Peer) bool { return p.Name == k.own }) {
		k.unsure()
		return
	}
	next, missing := k.others(registered), map[string]time.Time{}
	for _, p := range k.made {
		if slices.ContainsFunc(next, func(o render.Peer) bool { return o.Name == p.Name || o.Address == p.Address }) {
			continue
		}
		since, was := k.missing[p.Name]
		if !was {
			since = now
		}
		missing[p.Name] = since
		if now.Sub(since) < peersKept && len(next) < maxPeers-1 {
			next = append(next, p)
		}
	}
	k.next, k.missing = k.others(next), missing
	switch {
	case slices.Equal(k.next, k.made):
		k.changed = time.Time{}
	case k.changed.IsZero():
		k.changed = now
	}
}

// unsure takes that Consul could not say who is registered: none counts as missing.
func (k *peerKeeper) unsure() { k.missing = nil }

// due is when the change is to be made.
func (k *peerKeeper) due() time.Time {
	if at := k.last.Add(peersInterval); at.After(k.changed.Add(peersGather)) {
		return at
	}
	return k.changed.Add(peersGather)
}

func (k *peerKeeper) isDue(now time.Time) bool { return !k.changed.IsZero() && !now.Before(k.due()) }

// take returns the peers for a change that is made now.
func (k *peerKeeper) take(now time.Time) []render.Peer {
	k.made, k.changed, k.last = k.next, time.Time{}, now
	return k.made
}

// wait is how long Consul may be asked for news.
func (k *peerKeeper) wait(now time.Time) time.Duration {
	if k.changed.IsZero() {
		return peersLook
	}
	return min(peersLook, max(k.due().Sub(now), time.Millisecond))
}

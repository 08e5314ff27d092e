package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// peersName is the name of the section of Peers.
const peersName = "pointsman"

// Peer is a load balancer that exchanges stick tables.
type Peer struct {
	Name    string
	Address netip.AddrPort
}

// localPeer is the line by which HAProxy knows which peer it is.
func (s Settings) localPeer() string {
	if len(s.Peers) == 0 {
		return ""
	}
	return "    localpeer " + s.Peers[0].Name + "\n"
}

// localPeerOf is which peer HAProxy is by its file; "" leaves it to HAProxy.
func localPeerOf(file []section) (name string) {
	for _, s := range file {
		if d, ok := s.last("localpeer"); ok && s.kind == "global" && len(d.words) > 1 {
			name = d.words[1]
		}
	}
	return name
}

// peers is the section. Its order is the same on each load balancer.
func (s Settings) peers() string {
	if len(s.Peers) == 0 {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "\n# The load balancers that exchange stick tables.\npeers %s\n", peersName)
	for _, p := range slices.SortedFunc(slices.Values(s.Peers), func(a, b Peer) int { return strings.Compare(a.Name, b.Name) }) {
		fmt.Fprintf(&out, "    peer %s %s\n", p.Name, p.Address)
	}
	return out.String()
}

// PeersOf is the peers of a file that was rendered.
func PeersOf(content []byte) (peers []Peer) {
	for _, s := range sections(content) {
		if s.kind != "peers" || s.name != peersName {
			continue
		}
		for _, d := range s.directives() {
			if len(d.words) < 3 || d.words[0] != "peer" {
				continue
			}
			if at, err := netip.ParseAddrPort(d.words[2]); err == nil {
				peers = append(peers, Peer{Name: d.words[1], Address: at})
			}
		}
	}
	return peers
}

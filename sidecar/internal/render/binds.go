package render

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// bind is an address that a section has HAProxy listen on.
type bind struct {
	section section
	line    int    // from 1
	words   string // the address, as it stands there
	at      netip.AddrPort
	plain   bool // no word on the line makes it bind in another way
	v6only  bool
}

// binds gives the TCP addresses that a file has HAProxy listen on, as far as
// they stand there in numbers. whole is false if there are others: a name, a
// variable, a range of ports.
func binds(content []byte) (all []bind, whole bool) {
	whole = true
	for _, s := range sections(content) {
		for i, line := range s.lines {
			words := strings.Fields(line)
			addresses, options := listens(words)
			for _, words := range addresses {
				at, isTCP := bindAddr(words)
				if !at.IsValid() {
					whole = whole && !isTCP
					continue
				}
				all = append(all, bind{
					section: s, line: s.first + i, words: words, at: at,
					plain:  !slices.ContainsFunc(options, bindsOtherwise),
					v6only: slices.Contains(options, "v6only"),
				})
			}
		}
	}
	return all, whole
}

// listens gives the addresses of a line that has some, and the words after them
// (configuration manual, 4.2 "bind", 3.1 "stats socket", 3.5 "peer").
func listens(words []string) (addresses, options []string) {
	switch {
	case len(words) > 1 && words[0] == "bind":
		return strings.Split(words[1], ","), words[2:]
	case len(words) > 2 && words[0] == "stats" && words[1] == "socket", len(words) > 2 && words[0] == "peer":
		return words[2:3], words[3:]
	}
	return nil, nil
}

// bindsOtherwise reports whether a bind line's word changes where or how the
// address is bound.
func bindsOtherwise(word string) bool {
	return slices.Contains([]string{"interface", "namespace", "transparent", "mptcp"}, word)
}

// bindAddr reads an address as HAProxy does: nothing or * is any of IPv4, the
// port comes after the last colon. It is not valid if it is no single address
// in numbers; isTCP is false if it is none of TCP at all.
func bindAddr(words string) (at netip.AddrPort, isTCP bool) {
	family, rest, found := strings.Cut(words, "@")
	switch {
	case !found && strings.HasPrefix(words, "/"):
		return netip.AddrPort{}, false
	case !found:
		family, rest = "", words
	case slices.Contains([]string{"unix", "abns", "abnsz", "quic4", "quic6", "sockpair"}, family):
		return netip.AddrPort{}, false
	case !slices.Contains([]string{"ipv4", "ipv6", "tcp4", "tcp6"}, family):
		return netip.AddrPort{}, true
	}
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return netip.AddrPort{}, true
	}
	host := strings.Trim(rest[:colon], "[]")
	port, err := strconv.ParseUint(rest[colon+1:], 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, true
	}
	addr := netip.IPv4Unspecified()
	if strings.HasSuffix(family, "6") {
		addr = netip.IPv6Unspecified()
	}
	if host != "" && host != "*" {
		if addr, err = netip.ParseAddr(host); err != nil || addr.Zone() != "" {
			return netip.AddrPort{}, true
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}

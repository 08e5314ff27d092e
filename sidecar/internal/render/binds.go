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
	remote  bool // a peer that is another machine, which HAProxy connects to
}

// binds returns the TCP addresses that a file has HAProxy listen on, as far as
// they stand there in numbers. whole is false if there are others: a name, a
// variable, a range of ports.
func binds(content []byte) (all []bind, whole bool) {
	whole = true
	every := sections(content)
	local := localPeerOf(every)
	for _, s := range every {
		for i, line := range s.lines {
			words := strings.Fields(line)
			addresses, options := listens(words)
			remote := len(addresses) > 0 && words[0] == "peer" && words[1] != local
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
					remote: remote,
				})
			}
		}
	}
	return all, whole
}

// listens returns the addresses of a line that has some, and the words after them
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

// bindAddr returns the address that some words of a bind line mean. It is not
// valid if that is no single address in numbers; isTCP is false if it is none of
// TCP at all.
func bindAddr(words string) (at netip.AddrPort, isTCP bool) {
	l, isTCP := parseBind(words)
	if !l.Addr.IsValid() || l.First == 0 || l.First != l.Last {
		return netip.AddrPort{}, isTCP
	}
	return netip.AddrPortFrom(l.Addr, l.First), true
}

// Listener is what a file has HAProxy listen on by TCP.
type Listener struct {
	Addr        netip.Addr // not valid where only HAProxy knows it: a name, a variable
	First, Last uint16     // the ports; 0 likewise
	Where       string     // the section that has it
}

// parseBind reads an address as HAProxy does: nothing or * is any of IPv4, the
// port, or a range, comes after the last colon.
func parseBind(words string) (l Listener, isTCP bool) {
	family, rest, found := strings.Cut(words, "@")
	switch {
	case !found && strings.HasPrefix(words, "/"):
		return l, false
	case !found:
		family, rest = "", words
	case slices.Contains([]string{"unix", "abns", "abnsz", "quic4", "quic6", "sockpair"}, family):
		return l, false
	case !slices.Contains([]string{"ipv4", "ipv6", "tcp4", "tcp6"}, family):
		return l, true
	}
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return l, true
	}
	first, last, isRange := strings.Cut(rest[colon+1:], "-")
	if !isRange {
		last = first
	}
	from, errFirst := strconv.ParseUint(first, 10, 16)
	to, errLast := strconv.ParseUint(last, 10, 16)
	if errFirst == nil && errLast == nil {
		l.First, l.Last = uint16(from), uint16(to)
	}
	switch host := strings.Trim(rest[:colon], "[]"); {
	case host != "" && host != "*":
		if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
			l.Addr = addr
		}
	case strings.HasSuffix(family, "6"):
		l.Addr = netip.IPv6Unspecified()
	default:
		l.Addr = netip.IPv4Unspecified()
	}
	return l, true
}

// Listeners is what HAProxy listens on by the settings and the template, as far
// as the ports stand there in numbers.
func (r *Renderer) Listeners() []Listener { return r.listeners }

func listenersOf(of []section) (all []Listener) {
	for _, s := range of {
		for _, d := range s.directives() {
			if d.words[0] == "peer" {
				continue // nearly all of them are other machines
			}
			addresses, _ := listens(d.words)
			for _, words := range addresses {
				if l, isTCP := parseBind(words); isTCP && l.First > 0 {
					l.Where = strings.TrimSpace(s.kind + " " + s.name)
					all = append(all, l)
				}
			}
		}
	}
	return all
}

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/haproxycfg"
)

// wholeSections passes lines that are whole sections, of kinds that nothing else in
// the settings makes.
func wholeSections(lines []string) error {
	begun := false
	for i, line := range lines {
		words := strings.Fields(line)
		at := func(reason string) error { return fmt.Errorf("item %d, %s: %s", i+1, quote(line), reason) }
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case !haproxycfg.BeginsSection(words[0]) && !begun:
			return at("must begin a section, such as `userlist NAME`")
		case !haproxycfg.BeginsSection(words[0]):
		case words[0] == "global" || words[0] == "defaults":
			return at("its lines go to haproxy." + words[0] + ".extra")
		case slices.Contains([]string{"frontend", "backend", "listen", "program", "healthcheck"}, words[0]):
			return at("a section " + words[0] + " cannot be added; services make frontends and backends, and haproxy.template is for all else")
		case len(words) > 1 && strings.HasPrefix(words[1], "pointsman"):
			return at("the name is reserved for Pointsman in haproxy.cfg")
		default:
			begun = true
		}
	}
	return nil
}

// extraLine passes a line that is put into a section of haproxy.cfg as it is.
// It may quote and comment, but not leave its section.
func extraLine(s string) error {
	if err := oneLine(s); err != nil {
		return err
	}
	if fields := strings.Fields(s); len(fields) > 0 && haproxycfg.BeginsSection(fields[0]) {
		return fmt.Errorf("begins another section of haproxy.cfg (%s); only lines of this section can be added", fields[0])
	}
	return nil
}

// bind passes a bind line's words: an address, and perhaps options.
func bind(s string) error {
	if err := oneLine(s); err != nil {
		return err
	}
	if strings.ContainsAny(s, "#") {
		return errors.New("must not contain a comment")
	}
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	_, err := listeners(s)
	return err
}

// listener is one of the addresses of a bind line.
type listener struct {
	words string // as it is written
	path  string // of a unix socket; "" for an address
	at    netip.AddrPort
	last  uint16 // of the ports, which begin at at's

	within string // the interface and the namespace, as they are written; "" is all
	only6  bool   // it says v6only
}

// listeners parses the addresses of a bind line, in the forms that HAProxy
// takes (configuration manual, 4.2 "bind"): a comma between two, ipv4@, ipv6@ or
// unix@ before one, and a range of ports. Of the words after them only those matter that
// tell two listeners apart.
func listeners(bind string) ([]listener, error) {
	addresses, rest, _ := strings.Cut(strings.TrimSpace(bind), " ")
	words := strings.Fields(rest)
	var within []string
	for i, word := range words[:max(0, len(words)-1)] {
		if word == "interface" || word == "namespace" {
			within = append(within, word, words[i+1])
		}
	}
	var all []listener
	for address := range strings.SplitSeq(addresses, ",") {
		l, err := parseListener(address)
		if err != nil {
			return nil, err
		}
		l.within, l.only6 = strings.Join(within, " "), slices.Contains(words, "v6only")
		all = append(all, l)
	}
	return all, nil
}

func parseListener(words string) (listener, error) {
	l := listener{words: words}
	path, isPath := strings.CutPrefix(words, "unix@")
	if isPath || strings.HasPrefix(words, "/") {
		l.path = path
		if !strings.HasPrefix(path, "/") {
			return l, errors.New("must be a path that begins with '/' after unix@")
		}
		return l, socket(path)
	}
	family, rest, found := strings.Cut(words, "@")
	switch {
	case !found:
		family, rest = "", words
	case family != "ipv4" && family != "ipv6":
		return l, errors.New("must be an address with nothing, ipv4@, ipv6@ or unix@ before it")
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return l, errors.New("must be address:port, such as *:80 or 127.0.0.1:8080, or a path")
	}
	first, last, isRange := strings.Cut(rest[i+1:], "-")
	if err := portNumber(first, false); err != nil {
		return l, err
	}
	if !isRange {
		last = first
	} else if err := portNumber(last, false); err != nil {
		return l, err
	}
	from, _ := strconv.Atoi(first) // portNumber has parsed both
	to, _ := strconv.Atoi(last)
	if from > to {
		return l, fmt.Errorf("the ports %s end before they begin", quote(rest[i+1:]))
	}
	addr := netip.IPv4Unspecified()
	if family == "ipv6" {
		addr = netip.IPv6Unspecified()
	}
	if host := rest[:i]; host != "" && host != "*" {
		var err error
		addr, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
		if err != nil {
			return l, errors.New("must be an IP address or *, and a port")
		}
		if family == "ipv4" && !addr.Is4() || family == "ipv6" && !addr.Is6() {
			return l, fmt.Errorf("must be an address of %s", family)
		}
	}
	l.at, l.last = netip.AddrPortFrom(addr, uint16(from)), uint16(to)
	return l, nil
}

// places returns what two listeners must have in common to meet: a path, or one of the
// ports.
func (l listener) places() []string {
	if l.path != "" {
		return []string{l.path}
	}
	all := make([]string, 0, int(l.last-l.at.Port())+1)
	for port := int(l.at.Port()); port <= int(l.last); port++ {
		all = append(all, strconv.Itoa(port))
	}
	return all
}

// isSame reports whether two listeners that share a place are at one address.
func (l listener) isSame(o listener) bool {
	return l.path == o.path && l.at.Addr() == o.at.Addr()
}

// isApart reports whether two listeners are on different interfaces or namespaces.
func (l listener) isApart(o listener) bool {
	return l.within != "" && o.within != "" && l.within != o.within
}

// covers reports whether a listener at every address of a family takes the other's
// connections. On Linux `:::80` takes those of IPv4, too, unless it says v6only
// (configuration manual, 5.1).
func (l listener) covers(o listener) bool {
	if l.path != "" || o.path != "" || !l.at.Addr().IsUnspecified() {
		return false
	}
	return l.at.Addr().Is4() == o.at.Addr().Is4() || l.at.Addr().Is6() && !l.only6
}

// urlPath passes a path in a URL.
func urlPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return errors.New("must begin with '/'")
	}
	return word(s)
}

// octalMode passes the mode of a file.
func octalMode(s string) error {
	if n, err := strconv.ParseUint(s, 8, 16); err != nil || n > 0o777 {
		return errors.New("must be a file's mode in octal, such as 660")
	}
	return nil
}

// retryable are the words that HAProxy 2.6's retry-on takes (its manual, section 4.2).
var retryable = []string{
	"none", "conn-failure", "empty-response", "junk-response", "response-timeout", "0rtt-rejected", "all-retryable-errors",
	"401", "403", "404", "408", "425", "500", "501", "502", "503", "504",
}

func retryOn(s string) error {
	if strings.ContainsRune(s, ' ') {
		return fmt.Errorf("must be a list: [%s]", strings.Join(strings.Fields(s), ", "))
	}
	if !slices.Contains(retryable, s) {
		return errors.New("is not a condition of HAProxy's retry-on")
	}
	return nil
}

// balance passes the words after "balance".
func balance(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	return plainWords(s)
}
